package crlserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"signet.example/signet/crl"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

const opTakeOver = "take over revocation list"

// maxLastNumber is half of the largest number, so that later numbers have as much room as earlier ones.
const maxLastNumber = 1 << 62

// ExamineLast reads the last list of a CA that other software ran until now. It must be signed by the issuer, complete
// and numbered. It may have ended, because a list made here follows, and may have URLs of its own. Errors: KindInvalid
// (not a list), KindRefused.
func (p *Publisher) ExamineLast(issuer Issuer, der []byte) (*crl.List, error) {
	list, err := crl.Parse(der)
	if err != nil {
		return nil, (&pki.Error{Kind: pki.KindInvalid, Op: opTakeOver, Err: err}).InField("crl")
	}
	number, err := p.genuine(list, issuer)
	switch {
	case err != nil:
	case narrowed(list.IDP):
		err = errors.New("its issuing distribution point narrows it: other revocations would be lost")
	case number > maxLastNumber:
		err = fmt.Errorf("its number %d leaves no room for larger ones", number)
	}
	if err != nil {
		return nil, (&pki.Error{Kind: pki.KindRefused, Op: opTakeOver, Err: err}).InField("crl")
	}
	return list, nil
}

// TakeOver publishes the last list of an adopted issuer, at a ledger sequence that includes everything on the list.
// The list is served until the first list made here, which has a larger number, and no instance publishes one of an
// earlier sequence. Call TakeOver before the issuer is among Config.Issuers. Repeating it with the same octets changes
// nothing. The grant must allow auth.ActionManage. Errors: those of ExamineLast, KindDenied, KindConflict (a list with
// this or a larger number is published), KindUnavailable.
func (p *Publisher) TakeOver(ctx context.Context, grant auth.Grant, issuer Issuer, der []byte, seq uint64) error {
	if !grant.Allows(auth.ActionManage, "") || !grant.All() {
		return pki.Errorf(pki.KindDenied, opTakeOver, "%s may not publish lists", grant.Principal().ID)
	}
	list, err := p.ExamineLast(issuer, der)
	if err != nil {
		return err
	}
	number, _ := list.Number.Uint64()
	due := Head{List: List{Series{Issuer: issuer.Key.Issuer()}, KindComplete}, Seq: seq, From: pki.FirstEpoch(p.config.Now().Unix())}
	h := headOf(due, list, number, der)
	err = p.config.Imports.ImportPublication(ctx, h, der, p.importEvent(grant, h, sha256.Sum256(der)))
	if !errors.Is(err, ErrFenced) {
		return err
	}
	if kept, err := p.config.Publications.PublicationBytes(ctx, h.List, number); err == nil && bytes.Equal(kept, der) {
		return nil
	}
	return p.refusedImport(ctx, grant, due.List.Issuer, notLarger(number))
}
