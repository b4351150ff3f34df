package server_test

import (
	"strings"
	"testing"

	"signet.example/signet/pki"
)

// TestInteropReaders has other people's programs say what they make of a certificate, from everything that a running
// server publishes, through the certificate's life; each must say what the ledger says, with the reason where it tells
// one. In the end one bit of everything published is wrong, and none may say good: a reader that does was not reading.
func TestInteropReaders(t *testing.T) {
	onBoth(t, func(t *testing.T, database string) {
		j := newJudge(t, database)
		for _, stage := range stages {
			t.Run(stage.name, func(t *testing.T) {
				j.t = t
				stage.happen(j)
				j.collect(j.subjects[stage.of])
				j.startJava("get")
				for _, r := range readers {
					if stage.chain && !r.chain || stage.wrong && r.believes || stage.ocsp && !r.ocsp {
						continue
					}
					t.Run(r.name, func(t *testing.T) {
						j.t = t
						r.judge(j, stage)
					})
				}
				j.t = t
				for _, s := range foreignServers {
					if !stage.chain && !stage.ocsp {
						t.Run("our client of "+s.name, func(t *testing.T) {
							j.t = t
							s.judge(j, stage)
						})
					}
				}
			})
		}
	})
}

// stages is the life that the readers watch. The certificate app goes through it; other stays good until the end.
var stages = []stage{
	{name: "issued", happen: func(*judge) {}, of: "app", want: good},
	{name: "on hold", happen: (*judge).hold, of: "app", want: revoked, reason: pki.CertificateHold},
	{name: "released", happen: (*judge).release, of: "app", want: good},
	{name: "revoked", happen: func(j *judge) { j.revoke(j.app.Raw, pki.KeyCompromise) }, of: "app", want: revoked, reason: pki.KeyCompromise},
	{name: "another's is still good", happen: func(*judge) {}, of: "other", want: good},
	{name: "the public URL has changed: a new one", happen: (*judge).move, of: "moved", want: good},
	{name: "the public URL has changed: the old one", happen: func(*judge) {}, of: "app", want: revoked, reason: pki.KeyCompromise},
	{name: "forged with the issuing key", happen: (*judge).forge, of: "forged", want: revoked, reason: pki.CertificateHold, ocsp: true},
	{name: "one bit of everything is wrong", happen: func(j *judge) { j.front.tamper.Store(true) }, of: "other", want: anythingBut(good), wrong: true},
	{name: "the issuing authority is revoked", happen: (*judge).revokeIssuing, of: "other", want: revoked, chain: true},
}

type stage struct {
	name   string
	happen func(*judge)
	of     string // the certificate that is asked about
	want   word
	reason pki.Reason
	chain  bool // only those are asked who look at the whole chain
	wrong  bool // only those are asked who verify
	ocsp   bool // only for readers that ask the responder: lists cannot know
}

// word is what a reader says of a certificate.
type word string

const (
	good    word = "good"
	revoked word = "revoked"
	nothing word = "nothing" // it found no information that it believes
)

// wordIn is what a program said that ends well for good and prints a text for revoked.
func wordIn(output string, ok bool, whenRevoked string) word {
	switch {
	case strings.Contains(output, whenRevoked):
		return revoked
	case ok:
		return good
	}
	return nothing
}

func anythingBut(w word) word { return "anything but " + w }

func (w word) is(said word) bool {
	not, negated := strings.CutPrefix(string(w), "anything but ")
	return negated && string(said) != not || w == said
}

// reader is a way in which a foreign program, or our own, examines a certificate.
type reader struct {
	name  string
	chain bool // it looks at the status of the issuing authority, too
	ocsp  bool // it asks the responder
	// staples is set for those who look only at what the server staples. Only good is ever stapled: a server tells no
	// client that it is itself revoked, so there they find nothing.
	staples bool
	// believes is set for those who verify no signature of what they are given, so what they make of what is wrong says
	// nothing.
	believes bool
	ask      func(*judge, *subject) opinion
}

// opinion is what a reader said, with the reason if it tells one and everything that it printed.
type opinion struct {
	said   word
	reason string
	output string
}

var readers = flatten(ourReaders, opensslReaders, gnutlsReaders, nssReaders, javaReaders, clientReaders)

func flatten(lists ...[]reader) (all []reader) {
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

func (r reader) judge(j *judge, s stage) {
	j.t.Helper()
	want := s.want
	if r.staples && want == revoked {
		want = nothing
	}
	got := r.ask(j, j.subjects[s.of])
	if !want.is(got.said) {
		j.t.Errorf("says %s, want %s:\n%s", got.said, want, got.output)
	}
	if said := strings.ToLower(strings.NewReplacer("_", "", " ", "").Replace(got.reason)); said != "" && want == revoked && !s.chain && said != strings.ToLower(s.reason.String()) {
		j.t.Errorf("says the reason is %s, want %s:\n%s", got.reason, s.reason, got.output)
	}
}
