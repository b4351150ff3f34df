package main

import (
	"context"
	"strings"

	"signet.example/signet/api/client"
)

type holdCmd struct {
	certificateRef
	Yes  bool `help:"Put an authority on hold without confirmation."`
	Wait bool `help:"Return only when every instance has published it in CRL and OCSP."`
	serverFlags
}

func (holdCmd) Help() string {
	return `A certificate on hold counts as revoked until it is released or revoked for good. For the certificate
of an authority, confirmation or --yes is required: while it is on hold, nothing below it is valid either.

Examples:
  signet hold app.example.pem
  signet release app.example.pem`
}

// Run puts one certificate on hold.
func (c *holdCmd) Run(a *app) error {
	hold := func(api *client.Client, ctx context.Context, q client.HoldRequest) (*client.Change, error) {
		question, err := doubt(a, api, client.RevokeRequest{Issuer: q.Issuer, Serial: q.Serial})
		if err == nil && question != "" {
			err = a.sure("hold certificate", c.Yes, question+" Put it on hold?")
		}
		if err != nil {
			return nil, err
		}
		return api.Hold(ctx, q)
	}
	return changeStatus(a, c.serverFlags, c.certificateRef, hold, c.Wait, "on hold", "signet release %s, or signet revoke %s")
}

type releaseCmd struct {
	certificateRef
	Wait bool `help:"Return only when every instance has published it in CRL and OCSP."`
	serverFlags
}

func (releaseCmd) Help() string {
	return `Only a certificate on hold can be released; a revocation is for good.

Examples:
  signet release app.example.pem`
}

// Run releases one certificate from hold.
func (c *releaseCmd) Run(a *app) error {
	return changeStatus(a, c.serverFlags, c.certificateRef, (*client.Client).Release, c.Wait, "released", "signet status %s")
}

// changeStatus makes one of the two calls, which are otherwise alike.
func changeStatus(a *app, flags serverFlags, ref certificateRef, call statusCall, wait bool, done, next string) error {
	api, err := a.connect(flags)
	if err != nil {
		return err
	}
	defer api.Close()
	issuer, serial, err := ref.key(a, api, "find certificate")
	if err != nil {
		return err
	}
	change, err := call(api, a.ctx, client.HoldRequest{Issuer: issuer, Serial: serial, WaitPublished: wait})
	if err != nil {
		return err
	}
	if err := a.show(change, func(p *printer) {
		already := ""
		if change.Repeated {
			already = " already"
		}
		p.line("certificate %s of issuer %s is %s%s", change.Serial, change.Issuer, done, already)
		printPublished(p, change.PublishedAt)
		p.step(strings.ReplaceAll(next, "%s", quoted(ref.Certificate)))
	}); err != nil {
		return err
	}
	return unpublished(wait, change.Sequence, change.PublishedAt)
}

// statusCall is Hold or Release of the client.
type statusCall func(c *client.Client, ctx context.Context, q client.HoldRequest) (*client.Change, error)
