package revocation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"signet.example/signet/pki"
)

// BoardConfig configures a Board.
type BoardConfig struct {
	Store    ProgressStore // required
	Instance InstanceID    // required: tells this process from others

	// Products returns the sequence that each product of this instance has reached, by name: "ocsp" for all issuers,
	// and "crl/" followed by the identifier of an issuer. It is called every 25 ms, and concurrently. Zero: nothing is
	// reported.
	Products func() map[string]uint64

	// Now is the clock. Zero: time.Now.
	Now func() time.Time
}

// Board is where every instance reports how far its products are, so that a caller can wait until a revocation is
// published everywhere. It is safe for concurrent use.
type Board struct{ config BoardConfig }

const (
	boardInterval = 25 * time.Millisecond // between looks at the products
	heartbeat     = time.Second           // between reports of an instance where nothing changes
	silence       = 5 * time.Second       // after which an instance counts as gone
)

// NewBoard makes a Board. Its method Run reports.
func NewBoard(config BoardConfig) (*Board, error) {
	if config.Store == nil || config.Instance == (InstanceID{}) {
		return nil, pki.Errorf(pki.KindInvalid, "make board", "Store and Instance are required")
	}
	if config.Products == nil {
		config.Products = func() map[string]uint64 { return nil }
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Board{config}, nil
}

// Announce reports once what this instance has reached. From then on, and for as long as an instance may be silent,
// AwaitPublished waits for this instance too.
func (b *Board) Announce(ctx context.Context) error {
	return b.config.Store.ReportProgress(ctx, b.config.Instance, b.config.Products())
}

// Run reports what this instance has reached until ctx ends, and then removes its reports. report, if not nil, is
// called with every error.
func (b *Board) Run(ctx context.Context, report func(error)) {
	look := time.NewTicker(boardInterval)
	defer look.Stop()
	told := map[string]uint64{}
	var last time.Time
	for {
		reached, news := b.config.Products(), false
		for product, seq := range reached {
			news = news || told[product] != seq
		}
		if now := b.config.Now(); news || now.Sub(last).Abs() >= heartbeat {
			err := b.config.Store.ReportProgress(ctx, b.config.Instance, reached)
			if err == nil {
				told = reached
			} else if ctx.Err() == nil && report != nil {
				report(err)
			}
			last = now
		}
		select {
		case <-ctx.Done():
			leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), silence)
			defer cancel()
			if err := b.config.Store.ForgetProgress(leaving, b.config.Instance); err != nil && report != nil {
				report(err)
			}
			return
		case <-look.C:
		}
	}
}

// AwaitPublished waits until every product of every live instance has reached seq, and returns the time. With issuers,
// only products that show one of them count: the key of another, and its lists with it, may be away. Nil means every
// issuer. If ctx ends first, the error is a *LagError of KindUnavailable that names the products that lag; the change
// itself is durable.
func (b *Board) AwaitPublished(ctx context.Context, issuers []pki.IssuerID, seq uint64) (time.Time, error) {
	const op = "await publication"
	var behind []ProductProgress
	for {
		reports, err := b.config.Store.ReadProgress(ctx, silence)
		if err == nil {
			if behind = b.behind(reports, issuers, seq); len(behind) == 0 {
				return b.config.Now().UTC(), nil
			}
		} else if ctx.Err() == nil {
			return time.Time{}, err
		}
		select {
		case <-ctx.Done():
			return time.Time{}, (&pki.Error{Kind: pki.KindUnavailable, Op: op, Err: &LagError{Seq: seq, Behind: behind}}).
				WithHint("the change is recorded and will be published; ask again for its status")
		case <-time.After(boardInterval):
		}
	}
}

// behind returns the reports that have not reached seq. It asks this instance directly.
func (b *Board) behind(reports []ProductProgress, issuers []pki.IssuerID, seq uint64) (behind []ProductProgress) {
	for product, reached := range b.config.Products() {
		if reached < seq && shows(product, issuers) {
			behind = append(behind, ProductProgress{Instance: b.config.Instance, Product: product, Seq: reached, At: b.config.Now()})
		}
	}
	for _, r := range reports {
		if r.Instance != b.config.Instance && r.Seq < seq && shows(r.Product, issuers) {
			behind = append(behind, r)
		}
	}
	return behind
}

func shows(product string, issuers []pki.IssuerID) bool {
	_, of, one := strings.Cut(product, "/")
	return !one || issuers == nil || slices.ContainsFunc(issuers, func(issuer pki.IssuerID) bool { return of == issuer.String() })
}

// LagError says which products have not published a sequence yet.
type LagError struct {
	Seq    uint64
	Behind []ProductProgress // empty if not even that is known
}

// Error names the products.
func (e *LagError) Error() string {
	var names []string
	for _, b := range e.Behind {
		names = append(names, fmt.Sprintf("%s of instance %x is at %d", b.Product, b.Instance[:4], b.Seq))
	}
	return fmt.Sprintf("entry %d is not published everywhere yet: %s", e.Seq, strings.Join(names, ", "))
}
