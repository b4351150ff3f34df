package client

import (
	"context"
	"time"

	"signet.example/signet/api/signetv1"
)

// Profile is a kind of certificate.
type Profile struct {
	answer
	Name        string
	Description string
	Lifetime    time.Duration
	MaxLifetime time.Duration
	Issuer      string // label; empty: any
	Algorithms  []string
}

// Reloaded says which profiles an instance has after reading them again.
type Reloaded struct {
	answer
	Count        int
	Digest       string // SHA-256 over all of them, hexadecimal: the same on instances with the same profiles
	DigestBefore string
	Instances    []ProfileInstance // every one that runs, the one that was asked included
}

// ProfileInstance is what a running instance reports about its profiles.
type ProfileInstance struct {
	answer
	ID      string // hexadecimal
	Name    string // its host and the address of its API
	Digest  string
	Count   int
	ReadAt  time.Time
	Failure string // why it refused its files, so that an older set is in effect; empty: they are in effect
	Behind  bool   // it was asked to read them again, and has not yet
}

func profileInstances(ms []*signetv1.ProfileInstance) []ProfileInstance {
	all := make([]ProfileInstance, 0, len(ms))
	for _, m := range ms {
		all = append(all, ProfileInstance{answer{m}, m.GetInstance(), m.GetName(), m.GetDigest(), int(m.GetCount()), m.GetReadAt().AsTime(), m.GetFailure(), m.GetBehind()})
	}
	return all
}

// ProfileInstances lists the running instances with their profiles. It is for administrators and auditors; for others
// the list is empty.
func (c *Client) ProfileInstances(ctx context.Context) ([]ProfileInstance, error) {
	a, err := invoke(ctx, c, "list profiles", c.certificates.ListProfiles, new(signetv1.ListProfilesRequest))
	if err != nil {
		return nil, err
	}
	return profileInstances(a.GetInstances()), nil
}

// ReloadProfiles has every running instance read its own profile files again. On each, all of them take effect, or
// none.
func (c *Client) ReloadProfiles(ctx context.Context) (*Reloaded, error) {
	a, err := invoke(ctx, c, "reload profiles", c.certificates.ReloadProfiles, new(signetv1.ReloadProfilesRequest))
	if err != nil {
		return nil, err
	}
	return &Reloaded{answer{a}, int(a.GetCount()), a.GetDigest(), a.GetDigestBefore(), profileInstances(a.GetInstances())}, nil
}

// Profiles lists the profiles that the caller may issue under; for administrators, all profiles.
func (c *Client) Profiles(ctx context.Context) ([]Profile, error) {
	profiles := []Profile{}
	for token := ""; ; {
		a, err := invoke(ctx, c, "list profiles", c.certificates.ListProfiles, signetv1.ListProfilesRequest_builder{PageToken: optional(token)}.Build())
		if err != nil {
			return nil, err
		}
		for _, m := range a.GetProfiles() {
			profiles = append(profiles, Profile{answer{m}, m.GetProfile(), m.GetDescription(), m.GetLifetime().AsDuration(), m.GetMaxLifetime().AsDuration(), m.GetIssuer(), m.GetAlgorithms()})
		}
		if token = a.GetNextPageToken(); token == "" {
			return profiles, nil
		}
	}
}
