package ca

import (
	"context"

	"signet.example/signet/internal/audit"
)

// retain promises, before the first certificate under a profile that requires it, that the issuer answers for
// certificates after their end. The promise is the issuer's, because its lists and responders cover all its
// certificates and outlive profiles.
func (a *Authority) retain(ctx context.Context, o order) error {
	if o.profile.Retain <= o.issuer.Retention.Keep {
		return nil
	}
	event := audit.Event{
		At: a.config.Now(), Actor: o.principal.ID, Action: "issuer.retain", Target: "issuer/" + o.issuer.ID.String(), Outcome: audit.OK,
		RequestID: o.principal.RequestID, Source: o.principal.Source,
		Detail: map[string]string{"label": o.issuer.Label, "profile": o.profile.Name, "retain": days(o.profile.Retain)},
	}
	if err := a.config.Ranges.RaiseRetention(ctx, o.issuer.ID, o.profile.Retain, event); err != nil {
		return err
	}
	return a.issuers.load(ctx)
}
