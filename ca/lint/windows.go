//go:build windows

package lint

import "signet.example/signet/pki"

// Rules is empty: zlint does not build for Windows, so no certificate is issued there.
type Rules struct{}

// CheckSource accepts every name: the server that reads the profile checks them.
func CheckSource(string) error { return nil }

// CheckWaivable accepts every name, as CheckSource does.
func CheckWaivable(string) error { return nil }

// Compile returns an error, so that nothing can be issued.
func Compile([]string, map[string]string) (*Rules, error) {
	return nil, pki.Errorf(pki.KindFailedPrecondition, "select lint rules", "certificates cannot be linted on Windows").
		WithHint("run the server on Linux; the commands that talk to it work here")
}

// Certificate returns a *Failure.
func (*Rules) Certificate(_, _ []byte, _ bool) error {
	return &Failure{[]Finding{{Lint: "none", Source: "Signet", Citation: "ca/lint", Text: "certificates cannot be linted on Windows"}}}
}

// Report returns an error.
func (*Rules) Report(_, _ []byte, _ bool) (Report, error) { return nil, errNoLints }

// RevocationList returns an error.
func RevocationList(_, _ []byte) (Report, error) { return nil, errNoLints }

var errNoLints = pki.Errorf(pki.KindFailedPrecondition, "lint", "nothing can be linted on Windows")
