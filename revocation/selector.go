package revocation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// Selector says which unexpired certificates a job revokes: those that match every field that is set and are not
// Signet's own (Spared). At most one of Keys and Serials may be set, and then no other field. The zero Selector selects
// nothing: to select everything, set Everything. Its JSON is stored.
type Selector struct {
	Everything  bool           `json:"everything,omitempty"`
	Issuer      pki.IssuerID   `json:"issuer,omitzero"`
	Under       pki.IssuerID   `json:"under,omitzero"`  // this issuer and those of Below; not beside Issuer
	Below       []pki.IssuerID `json:"below,omitempty"` // the issuers below Under when the job was planned
	FromEpoch   pki.Epoch      `json:"from_epoch,omitempty"`
	ToEpoch     pki.Epoch      `json:"to_epoch,omitempty"` // exclusive; 0: no bound
	FromIndex   uint64         `json:"from_index,omitempty"`
	ToIndex     uint64         `json:"to_index,omitempty"` // exclusive; 0: no bound
	Profile     string         `json:"profile,omitempty"`
	Account     string         `json:"account,omitempty"`
	IssuedFrom  time.Time      `json:"issued_from,omitzero"`
	IssuedUntil time.Time      `json:"issued_until,omitzero"` // exclusive

	ExpiresFrom  time.Time        `json:"expires_from,omitzero"`
	ExpiresUntil time.Time        `json:"expires_until,omitzero"` // exclusive
	Names        []pki.Identifier `json:"names,omitempty"`        // any of them, in any case; at most 1,000
	Keys         []pki.KeyHash    `json:"keys,omitempty"`         // of the SubjectPublicKeyInfo; at most 10,000
	Serials      bool             `json:"serials,omitempty"`      // those listed when the job was planned

	Unknown bool `json:"-"` // the stored selector has a condition that this version does not know
}

// UnmarshalJSON reads a stored selector. A condition of a later version sets Unknown: without it the selector would
// select more.
func (s *Selector) UnmarshalJSON(text []byte) error {
	type fields Selector
	var read fields
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&read); err != nil {
		read = fields{Unknown: true}
	}
	*s = Selector(read)
	return nil
}

const (
	maxNames   = 1_000
	maxKeys    = 10_000
	maxSerials = 1_000_000
)

// bounded reports whether any field narrows the selection.
func (s Selector) bounded() bool {
	return s.Issuers() != nil || s.FromEpoch != 0 || s.ToEpoch != 0 || s.FromIndex != 0 || s.ToIndex != 0 || s.Profile != "" || s.Account != "" ||
		!s.IssuedFrom.IsZero() || !s.IssuedUntil.IsZero() || !s.ExpiresFrom.IsZero() || !s.ExpiresUntil.IsZero() || len(s.Names) > 0
}

// Issuers returns the issuers whose certificates are selected. Nil: those of every issuer.
func (s Selector) Issuers() []pki.IssuerID {
	switch {
	case !s.Issuer.IsZero():
		return []pki.IssuerID{s.Issuer}
	case !s.Under.IsZero():
		return append([]pki.IssuerID{s.Under}, s.Below...)
	}
	return nil
}

// Weeks returns the weeks of expiry of the selected certificates, from one up to and not including another. 0: no
// bound.
func (s Selector) Weeks() (from, to pki.Epoch) {
	from, to = s.FromEpoch, s.ToEpoch
	if first, err := pki.EpochAt(s.ExpiresFrom.Unix()); err == nil {
		from = max(from, first)
	}
	if last, err := pki.EpochAt(s.ExpiresUntil.Unix()); err == nil && last < pki.EpochForever && (to == 0 || last < to) {
		to = last + 1
	}
	return from, to
}

// ownProfiles are the profiles of Signet's own certificates: authorities on this server, and OCSP responders.
var ownProfiles = []string{"root-ca", "issuing-ca", "ocsp-responder"}

// Spared returns the profiles that a condition over many certificates does not revoke, in addition to what Signet
// issued to itself: an incident among subscriber certificates must not end the authority. Nil: nothing is spared,
// because the selector names keys, serials, an own profile or Signet's account.
func (s Selector) Spared() []string {
	if len(s.Keys) > 0 || s.Serials || s.Account == ownAccount || slices.Contains(ownProfiles, s.Profile) {
		return nil
	}
	return ownProfiles
}

var ownAccount = auth.System("").Account

// validate refuses a selector that is empty, contradictory or too large.
func (s Selector) validate() error {
	invalid := func(field, format string, args ...any) error {
		return pki.Errorf(pki.KindInvalid, opPlan, format, args...).InField(field)
	}
	lists := 0
	if len(s.Keys) > 0 {
		lists++
	}
	if s.Serials {
		lists++
	}
	switch {
	case s.Unknown:
		return pki.Errorf(pki.KindUnavailable, opPlan, "the selector has conditions that this version does not know").InField("selector").
			WithHint("an instance of the version that planned the job runs it")
	case lists > 1 || lists == 1 && (s.bounded() || s.Everything):
		return invalid("selector", "a list of keys or of serials selects alone")
	case lists == 0 && !s.bounded() && !s.Everything:
		return pki.Errorf(pki.KindInvalid, opPlan, "the selector is empty").InField("selector").WithHint("to revoke every certificate, say everything")
	case s.Everything && s.bounded():
		return invalid("selector", "everything cannot be narrowed")
	case !s.Issuer.IsZero() && !s.Under.IsZero():
		return invalid("selector", "issuer and under are not said together: under is the issuer and those below it")
	case len(s.Names) > maxNames:
		return invalid("selector.names", "more than %d names", maxNames)
	case len(s.Keys) > maxKeys:
		return invalid("selector.keys", "more than %d keys", maxKeys)
	case s.ToEpoch != 0 && s.ToEpoch <= s.FromEpoch, s.ToIndex != 0 && s.ToIndex <= s.FromIndex, !s.IssuedUntil.IsZero() && !s.IssuedFrom.Before(s.IssuedUntil),
		!s.ExpiresUntil.IsZero() && !s.ExpiresFrom.Before(s.ExpiresUntil):
		return invalid("selector", "an interval is empty")
	case s.ToIndex > pki.MaxIndex+1, s.FromIndex > pki.MaxIndex:
		return invalid("selector", "indices end at %d", uint64(pki.MaxIndex))
	}
	return nil
}

// ParseSelector reads conditions joined by "and", as in
//
//	profile=server and issued>=2026-11-01 and issued<2026-11-08T12:00:00Z
//
// with issuer=, under= (an issuer and those below it), profile=, account=, name= (type:value or a bare name; may be repeated: any of
// them), key= (the SHA-256 of a SubjectPublicKeyInfo; may be repeated), epoch=, index>=, index<, issued>=, issued<, expires>=,
// expires<, and the word everything alone. Values with spaces stand in double quotes; spaces around =, < and > do not count. find returns the issuer of a name or id, and those below it.
func ParseSelector(text string, find func(name string) (issuer pki.IssuerID, below []pki.IssuerID, err error)) (Selector, error) {
	var s Selector
	said := map[string]bool{}
	words, err := splitWords(text)
	if err != nil {
		return s, err
	}
	if len(words)%2 == 0 {
		return s, badSelector("want conditions joined by \"and\"")
	}
	for i, word := range words {
		if i%2 == 1 {
			if !strings.EqualFold(word, "and") {
				return s, badSelector("%.64q stands where \"and\" should", word)
			}
			continue
		}
		if err := s.add(word, said, find); err != nil {
			return s, err
		}
	}
	return s, s.validate()
}

func (s *Selector) add(condition string, said map[string]bool, find func(string) (pki.IssuerID, []pki.IssuerID, error)) error {
	if condition == "everything" {
		s.Everything = true
		return nil
	}
	i := strings.IndexAny(condition, "=<>")
	if i < 0 {
		return badSelector("%.64q is no condition", condition)
	}
	field, operator, value := condition[:i], condition[i:i+1], condition[i+1:]
	if rest, ok := strings.CutPrefix(value, "="); ok && operator != "=" {
		operator, value = operator+"=", rest
	}
	kind := field + operator
	if said[kind] && field != "name" && field != "key" {
		return badSelector("%.64q is the second condition of its kind: only name= and key= may be repeated", condition)
	}
	said[kind] = true
	if value = strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`); value == "" { // in a Selector what is empty narrows nothing
		return badSelector("%.64q says no value", condition)
	}
	var err error
	switch field + operator {
	case "issuer=":
		s.Issuer, _, err = find(value)
	case "under=":
		s.Under, s.Below, err = find(value)
	case "profile=":
		s.Profile = value
	case "account=":
		s.Account = value
	case "name=":
		var name pki.Identifier
		name, err = pki.ParseIdentifier(value)
		s.Names = append(s.Names, name)
	case "key=":
		var key pki.KeyHash
		key, err = pki.ParseKeyHash(value)
		s.Keys = append(s.Keys, key)
	case "epoch=":
		s.FromEpoch, err = pki.ParseEpoch(value)
		s.ToEpoch = s.FromEpoch + 1 // of the last epoch 0: no bound
	case "index>=":
		s.FromIndex, err = parseIndex(value)
	case "index<":
		if s.ToIndex, err = parseIndex(value); err == nil && s.ToIndex == 0 {
			return badSelector("%.64q selects nothing", condition)
		}
	case "issued>", "expires>": // a day has many moments: after its first or after its last?
		return badSelector("%.64q leaves open whether the day itself is meant", condition).
			WithHint("write %s>= and the first day, or the first moment, that is meant", field)
	case "issued>=":
		s.IssuedFrom, err = parseTime(value)
	case "issued<":
		s.IssuedUntil, err = parseTime(value)
	case "expires>=":
		s.ExpiresFrom, err = parseTime(value)
	case "expires<":
		s.ExpiresUntil, err = parseTime(value)
	default:
		return badSelector("%.64q is no condition", condition)
	}
	if err != nil {
		return badSelector("%w", err)
	}
	return nil
}

// parseIndex reads a decimal number and nothing after it: half of "10,000" would select other certificates.
func parseIndex(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("index %.64q: write a decimal number without signs or separators, such as 10000", text)
	}
	return n, nil
}

// parseTime reads a day, which begins at midnight UTC, or an instant of RFC 3339.
func parseTime(text string) (time.Time, error) {
	at, err := time.Parse(time.DateOnly, text)
	if err != nil {
		at, err = time.Parse(time.RFC3339, text)
	}
	if err != nil || at.IsZero() { // the zero Time bounds nothing
		return time.Time{}, fmt.Errorf("%.64q: write 2026-11-01 or 2026-11-01T12:00:00Z", text)
	}
	return at.UTC(), nil
}

// splitWords splits at spaces that do not stand in double quotes, nor beside =, < or >.
func splitWords(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	quoted := false
	flush := func() {
		const operators = "=<>"
		next, last := word.String(), len(words)-1
		word.Reset()
		switch {
		case next == "":
		case last >= 0 && (strings.ContainsAny(next[:1], operators) || strings.ContainsAny(words[last][len(words[last])-1:], operators)):
			words[last] += next
		default:
			words = append(words, next)
		}
	}
	for _, r := range text {
		switch {
		case r == '"':
			quoted = !quoted
			word.WriteRune(r)
		case !quoted && (r == ' ' || r == '\t' || r == '\n'):
			flush()
		default:
			word.WriteRune(r)
		}
	}
	if quoted {
		return nil, badSelector("a double quote is not closed")
	}
	flush()
	return words, nil
}

func badSelector(format string, args ...any) *pki.Error {
	return pki.Errorf(pki.KindInvalid, "read selector", format, args...).InField("where").
		WithHint("write conditions such as: profile=server and issued>=2026-11-01; there are issuer=, under= (an issuer and those below it; what is below a domain: signet list --under DOMAIN --export csv | signet revoke --serials -), profile=, account=, name=, key=, epoch=, index>=, index<, issued>=, issued<, expires>=, expires< and everything")
}
