package main

import (
	"encoding/pem"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

type keyCmd struct {
	Block keyBlockCmd `cmd:"" help:"Revoke every certificate with a key, and never certify it again."`
}

type keyBlockCmd struct {
	Certificate string  `xor:"what" placeholder:"FILE" help:"A certificate with the key."`
	Hash        string  `xor:"what" placeholder:"HEX" help:"SHA-256 of the SubjectPublicKeyInfo."`
	Proof       string  `xor:"what" placeholder:"FILE" help:"A request signed with the key, common name \"Signet key compromise\"."`
	Comment     string  `placeholder:"TEXT" help:"What happened; it is kept."`
	LostAt      instant `placeholder:"TIME" help:"Since when the key must be doubted."`
	serverFlags
}

// Help is shown by `signet key block --help`.
func (keyBlockCmd) Help() string {
	return `For a key that somebody else has. Every unexpired certificate with it is revoked for keyCompromise, whoever it belongs to.

Examples:
  signet key block --certificate app.example.pem --comment "found in a public repository"
  signet key block --proof compromise.csr`
}

// Run blocks one key.
func (c *keyBlockCmd) Run(a *app) error {
	const op = "block key"
	request := client.BlockRequest{Comment: c.Comment, InvalidityAt: c.LostAt.Time}
	switch {
	case c.Certificate != "":
		certificate, err := a.readCertificate(c.Certificate)
		if err != nil {
			return err
		}
		request.CertificatePEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
	case c.Proof != "":
		der, err := a.readDER(c.Proof, "certificate request", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
		if err != nil {
			return err
		}
		request.ProofCSRPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	case c.Hash != "":
		var err error
		if request.KeyHash, err = pki.ParseKeyHash(c.Hash); err != nil {
			return (&pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}).InField("--hash")
		}
	default:
		return pki.Errorf(pki.KindInvalid, op, "no key is named").WithHint("give --certificate, --hash or --proof")
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	blocked, err := api.BlockKey(a.ctx, request)
	if err != nil {
		return err
	}
	return a.show(blocked, func(p *printer) {
		verb := "blocked"
		if blocked.Repeated {
			verb = "had blocked already"
		}
		p.line("%s key %s", verb, blocked.KeyHash)
		p.line("  Certificates with it that were revoked now: %d. It will never be certified again.", blocked.Revoked)
		if blocked.Job != "" {
			p.next("the rest is being revoked: signet job show %s", blocked.Job)
		}
	})
}
