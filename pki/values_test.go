package pki_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"signet.example/signet/pki"
)

// TestZeroValuesAreSafe: what nobody set must not read as good, valid or somebody's fault.
func TestZeroValuesAreSafe(t *testing.T) {
	var status pki.Status
	if status != pki.StatusUnknown || status.Conclusive() {
		t.Errorf("the zero status is %s, conclusive %v", status, status.Conclusive())
	}
	if kind := pki.KindOf(io.EOF); kind != pki.KindInternal {
		t.Errorf("an error of nobody has kind %s", kind)
	}
	if !(pki.IssuerID{}).IsZero() {
		t.Error("the zero issuer names someone")
	}
}

// TestReasons: the numbers are those of RFC 5280, Section 5.3.1; 7 is not used.
func TestReasons(t *testing.T) {
	for number, name := range map[pki.Reason]string{
		0: "unspecified", 1: "keyCompromise", 2: "cACompromise", 3: "affiliationChanged", 4: "superseded", 5: "cessationOfOperation",
		6: "certificateHold", 8: "removeFromCRL", 9: "privilegeWithdrawn", 10: "aACompromise",
	} {
		if !number.Valid() || number.String() != name {
			t.Errorf("reason %d is %s, valid %v; want %s", uint8(number), number, number.Valid(), name)
		}
		for _, text := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
			if got, err := pki.ParseReason(text); err != nil || got != number {
				t.Errorf("ParseReason(%q) = %v, %v", text, got, err)
			}
		}
	}
	for _, text := range []string{"key-compromise", "key_compromise", "Key Compromise"} {
		if got, err := pki.ParseReason(text); err != nil || got != pki.KeyCompromise {
			t.Errorf("ParseReason(%q) = %v, %v", text, got, err)
		}
	}
	for _, number := range []pki.Reason{7, 11, 255} {
		if number.Valid() {
			t.Errorf("reason %d is valid", uint8(number))
		}
	}
	for _, text := range []string{"", "1", "stolen", "reason(7)"} {
		if got, err := pki.ParseReason(text); err == nil {
			t.Errorf("ParseReason(%q) = %s, want an error", text, got)
		}
	}
}

func TestStatusNames(t *testing.T) {
	seen := map[string]bool{}
	for s := pki.StatusUnknown; s <= pki.StatusInvalid; s++ {
		if seen[s.String()] || s != pki.StatusUnknown && s.String() == "unknown" {
			t.Errorf("status %d has no name of its own: %s", s, s)
		}
		seen[s.String()] = true
	}
	if (pki.StatusInvalid + 1).String() != "unknown" {
		t.Error("a status beyond the last one is not unknown")
	}
}

func TestErrors(t *testing.T) {
	err := pki.Errorf(pki.KindInvalid, "issue certificate", "cannot read it: %w", io.ErrUnexpectedEOF).InField("csr").WithHint("send %s", "PEM")
	wrapped := fmt.Errorf("rpc: %w", err)
	if got, want := err.Error(), "issue certificate: csr: cannot read it: unexpected EOF"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	if !errors.Is(wrapped, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
	if pki.KindOf(wrapped) != pki.KindInvalid {
		t.Errorf("kind %s through a wrapper", pki.KindOf(wrapped))
	}
	if e, ok := errors.AsType[*pki.Error](wrapped); !ok || e.Hint != "send PEM" || e.Field != "csr" {
		t.Errorf("found %+v", e)
	}
	seen := map[string]bool{}
	for k := pki.KindInternal; k <= pki.KindExhausted; k++ {
		if seen[k.String()] {
			t.Errorf("two kinds are called %s", k)
		}
		seen[k.String()] = true
	}
	if pki.Kind(200).String() != "internal" {
		t.Error("an unknown kind is not internal")
	}
}

// TestIdentifiersOfIssuers: one spelling per URL.
func TestIdentifiersOfIssuers(t *testing.T) {
	hash := pki.HashSPKI([]byte("key"))
	id := hash.Issuer()
	if back, err := pki.ParseIssuerID(id.String()); err != nil || back != id {
		t.Errorf("%s reads back as %s, %v", id, back, err)
	}
	if back, err := pki.ParseKeyHash(hash.String()); err != nil || back != hash {
		t.Errorf("%s reads back as %s, %v", hash, back, err)
	}
	if !strings.HasPrefix(hash.String(), id.String()) {
		t.Errorf("issuer %s is not the beginning of %s", id, hash)
	}
	for _, text := range []string{"", strings.ToUpper(id.String()), id.String() + "0", id.String()[1:], strings.Repeat("g", 20), hash.String()} {
		if got, err := pki.ParseIssuerID(text); err == nil {
			t.Errorf("ParseIssuerID(%q) = %s, want an error", text, got)
		}
	}
}
