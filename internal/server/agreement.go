package server

import (
	"context"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

const (
	agreementInterval = 10 * time.Second
	agreementLargest  = 4 << 20 // octets of a list that is compared whole
)

// compareProducts is the self-monitor: one list a round is read back from the octets that clients get, and held against
// the ledger at the list's own sequence. What disagrees is counted and logged; it never should.
func (s *Server) compareProducts(ctx context.Context) error {
	ticker := time.NewTicker(agreementInterval)
	defer ticker.Stop()
	for round := 0; ; round++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		lists := s.publisher.Lists()
		if len(lists) == 0 {
			continue
		}
		list := lists[round%len(lists)].Head.List
		if err := s.compareList(ctx, list); err != nil && ctx.Err() == nil {
			s.report("self-monitor")(err)
		}
	}
}

// compareList compares one list. A delta is covered by the complete list and the ledger both.
func (s *Server) compareList(ctx context.Context, list crlserver.List) error {
	document, head, ok := s.publisher.Document(list)
	if !ok || head.Size > agreementLargest || list.Kind == crlserver.KindDelta {
		return nil
	}
	parsed, err := crl.Parse(document.Bytes())
	if err != nil {
		s.disagreements.Add(1)
		return err
	}
	scope := revocation.Whole(list.Issuer)
	if list.Sharded {
		scope = revocation.OfShard(list.Issuer, list.Shard)
	}
	revoked := make(map[pki.Serial]bool)
	for entry, err := range s.universe.Entries(ctx, scope, 0, head.Seq) {
		if err != nil {
			return err
		}
		if !list.Sharded && !entry.Foreign && entry.Position.Epoch < head.From {
			continue
		}
		revoked[entry.Serial] = entry.Kind.Revokes()
	}
	expected := 0
	for serial, is := range revoked {
		if is {
			expected++
		}
		if _, found := parsed.Lookup(ocsp.SerialOctets(serial), parsed.Issuer); found != is {
			s.disagree(list, serial)
		}
	}
	if parsed.Len() != expected {
		s.disagree(list, pki.Serial{})
	}
	return nil
}

func (s *Server) disagree(list crlserver.List, serial pki.Serial) {
	s.disagreements.Add(1)
	s.log.Error("a published list and the ledger disagree", "list", list.String(), "serial", serial.String(),
		"next", "keep the list, the database and this log, and report it: this is a bug or damage")
}
