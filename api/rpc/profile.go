package rpc

import (
	"context"
	"encoding/hex"

	"google.golang.org/protobuf/types/known/timestamppb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca/profile/rollout"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// ReloadProfiles makes every instance read its profile files again. The result is in the audit log, by instance.
func (s *certificateService) ReloadProfiles(ctx context.Context, _ *signetv1.ReloadProfilesRequest) (*signetv1.ReloadProfilesResponse, error) {
	p := caller(ctx)
	if _, err := p.Authorize(auth.ActionManage, ""); err != nil {
		return nil, err
	}
	before := s.api.config.Rollout.Own()
	instances, err := s.api.config.Rollout.Reload(ctx, audit.Event{Actor: p.ID, RequestID: p.RequestID, Source: p.Source})
	if err != nil {
		return nil, err
	}
	own := s.api.config.Rollout.Own()
	return signetv1.ReloadProfilesResponse_builder{
		Count: new(int32(own.Count)), Digest: new(hex.EncodeToString(own.Digest[:])), DigestBefore: new(hex.EncodeToString(before.Digest[:])),
		Instances: profileInstancesTo(instances),
	}.Build(), nil
}

// profileInstances returns the state of all instances to callers that manage or audit.
func (s *certificateService) profileInstances(ctx context.Context, p auth.Principal) ([]*signetv1.ProfileInstance, error) {
	_, manage := p.Authorize(auth.ActionManage, "")
	_, audits := p.Authorize(auth.ActionAudit, "")
	if manage != nil && audits != nil {
		return nil, nil
	}
	instances, err := s.api.config.Rollout.Instances(ctx)
	if pki.KindOf(err) == pki.KindUnavailable { // the caller's profiles are known without the others
		instances, err = []rollout.Instance{s.api.config.Rollout.Own()}, nil
	}
	return profileInstancesTo(instances), err
}

func profileInstancesTo(instances []rollout.Instance) []*signetv1.ProfileInstance {
	var asked uint64
	for _, i := range instances {
		asked = max(asked, i.Generation)
	}
	var all []*signetv1.ProfileInstance
	for _, i := range instances {
		all = append(all, signetv1.ProfileInstance_builder{
			Instance: new(hex.EncodeToString(i.ID[:])), Name: &i.Name, Digest: new(hex.EncodeToString(i.Digest[:])), Count: new(int32(i.Count)),
			ReadAt: timestamppb.New(i.At), Failure: optional(i.Failure), Behind: new(rollout.Behind(i, asked)),
		}.Build())
	}
	return all
}
