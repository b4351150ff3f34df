package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

// askInventory measures the first page of every kind of list, by the API, over a filled database.
func askInventory(ctx context.Context, b *bench) (err error) {
	count := 1_000_000
	if b.quick {
		count = 100_000
	}
	if b.certificates > 0 {
		count = b.certificates
	}
	s, f, err := b.filledSite(ctx, "inventory", count, 100)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	some := f.serials[len(f.serials)/2]
	now := time.Now()
	for _, list := range []struct {
		name   string
		filter client.CertificateFilter
	}{
		{"newest", client.CertificateFilter{}},
		{"name", client.CertificateFilter{Identifier: fmt.Sprintf("host%d-7.zone7.example", mustEpoch(now.AddDate(0, 0, 28)))}},
		{"suffix", client.CertificateFilter{DNSSuffix: "zone77.example"}},
		{"serial", client.CertificateFilter{Serial: some}},
		{"key", client.CertificateFilter{KeyHash: pki.KeyHash{5: 1}}},
		{"issuer", client.CertificateFilter{Issuer: f.issuer}},
		{"profile", client.CertificateFilter{Profile: "email"}},
		{"account", client.CertificateFilter{Account: "account42"}},
		{"revoked", client.CertificateFilter{Standing: client.StandingRevoked}},
		{"valid", client.CertificateFilter{Standing: client.StandingValid}},
		{"expires-30d", client.CertificateFilter{ExpiresFrom: now, ExpiresUntil: now.AddDate(0, 0, 40)}},
		{"issued-1h", client.CertificateFilter{IssuedFrom: now.Add(-time.Hour)}},
		{"profile-and-revoked", client.CertificateFilter{Profile: "client", Standing: client.StandingRevoked}},
	} {
		_, err := b.measure(ctx, load{name: fmt.Sprintf("list/%s/%d", list.name, count), callers: 1, pid: s.pid(), do: func(ctx context.Context, _, _ int) error {
			_, err := s.api.Certificates(ctx, list.filter, client.Page{})
			return err
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func mustEpoch(t time.Time) pki.Epoch {
	epoch, err := pki.EpochAt(t.Unix())
	if err != nil {
		panic(err) // this year is behind the first week of the calendar
	}
	return epoch
}

// filledSite makes an authority, loads certificates, and serves it.
func (b *bench) filledSite(ctx context.Context, name string, count, every int) (*site, *filled, error) {
	s, err := b.newSite(ctx, name, "postgres")
	if err != nil {
		return nil, nil, err
	}
	csrs, err := requests(1)
	if err != nil {
		return nil, nil, err
	}
	model, err := s.api.Issue(ctx, client.IssueRequest{CSR: csrs[0], Profile: "server", Identifiers: []string{"model.example"}})
	if err != nil {
		return nil, nil, err
	}
	issuer, err := s.api.Issuer(ctx, model.Certificate.Issuer)
	if err != nil {
		return nil, nil, err
	}
	if err := s.halt(); err != nil {
		return nil, nil, err
	}
	began := time.Now()
	f, err := b.fill(ctx, s.database, model.Certificate, issuer.KeyHash, count, every)
	if err != nil {
		return nil, nil, err
	}
	fmt.Printf("loaded %d certificates, 1 in %d revoked, in %s\n", len(f.serials), every, time.Since(began).Round(time.Second))
	began = time.Now()
	if err := s.start(ctx, b.signet); err != nil {
		return nil, nil, err
	}
	fmt.Printf("started over them in %s, %.0f MB\n", time.Since(began).Round(time.Millisecond), rssOf(s.pid()))
	return s, f, nil
}
