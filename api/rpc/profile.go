package rpc

import (
	"context"
	"encoding/hex"
	"strconv"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
)

// ReloadProfiles has this instance read its profile files again. Both outcomes are in the audit log.
func (s *certificateService) ReloadProfiles(ctx context.Context, _ *signetv1.ReloadProfilesRequest) (*signetv1.ReloadProfilesResponse, error) {
	p := caller(ctx)
	if _, err := p.Authorize(auth.ActionManage, ""); err != nil {
		return nil, err
	}
	profiles := s.api.config.Profiles
	before := profiles.Digest()
	failed := profiles.Reload()
	after := profiles.Digest()
	event := audit.Event{
		At: s.api.config.Now(), Actor: p.ID, Action: "profiles.reload", Target: "instance", Outcome: audit.OK, RequestID: p.RequestID, Source: p.Source,
		Detail: map[string]string{"digest": hex.EncodeToString(after[:]), "digest_before": hex.EncodeToString(before[:])},
	}
	if failed != nil {
		event.Outcome, event.Detail["error"] = audit.Refused, failed.Error()
	}
	if err := s.api.config.Audit.AppendAudit(context.WithoutCancel(ctx), []audit.Event{event}); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	count := len(profiles.All())
	s.api.config.Log.Info("the profiles were read again", "by", p.ID, "count", strconv.Itoa(count), "digest", event.Detail["digest"])
	return signetv1.ReloadProfilesResponse_builder{
		Count: new(int32(count)), Digest: new(event.Detail["digest"]), DigestBefore: new(event.Detail["digest_before"]),
	}.Build(), nil
}
