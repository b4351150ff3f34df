package server_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"signet.example/signet/api/client"
)

// TestProfilesOfEveryInstance asks one instance to read its profiles: the other reads its own, says so if it refuses
// them, and then keeps what it had.
func TestProfilesOfEveryInstance(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		sites := []*site{found(t, database)}
		if !strings.HasPrefix(database, "sqlite:") {
			sites = append(sites, sites[0].beside(t))
		}
		write := func(s *site, text string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(s.dir, "profiles", "web.yaml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range sites {
			if err := os.MkdirAll(filepath.Join(s.dir, "profiles"), 0o700); err != nil {
				t.Fatal(err)
			}
			s.env = []string{"SIGNET_PROFILES=profiles"}
			s.start(t)
		}
		first, last := sites[0], sites[len(sites)-1]
		reload := func(s *site) []client.ProfileInstance {
			t.Helper()
			reloaded, err := s.api.ReloadProfiles(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(reloaded.Instances) != len(sites) {
				t.Fatalf("%d instances, want %d", len(reloaded.Instances), len(sites))
			}
			return reloaded.Instances
		}
		_, web := first.run(t, "profile", "show", "server")
		web = strings.Replace(web, "name: server", "name: web", 1)
		for _, s := range sites {
			write(s, web)
		}
		for _, i := range reload(first) {
			if i.Failure != "" || i.Behind || i.Count != reload(last)[0].Count {
				t.Errorf("%+v", i)
			}
		}
		for _, s := range sites {
			if profiles, err := s.api.Profiles(t.Context()); err != nil || !has(profiles, "web") {
				t.Errorf("an instance has no profile web: %v", err)
			}
		}
		write(last, "name: web\nlifetime: forever\n")
		if _, err := last.api.ReloadProfiles(t.Context()); err == nil || !strings.Contains(err.Error(), "web.yaml:2") {
			t.Errorf("bad files of the instance that is asked: %v", err)
		}
		if status, said := last.run(t, "profile", "instances"); status == 0 || !strings.Contains(said, "web.yaml:2") {
			t.Errorf("status %d: %s", status, said)
		}
		if first == last {
			return
		}
		refused := 0
		for _, i := range reload(first) {
			if strings.Contains(i.Failure, "web.yaml:2") {
				refused++
			}
		}
		if profiles, err := last.api.Profiles(t.Context()); err != nil || !has(profiles, "web") || refused != 1 {
			t.Errorf("%d refused, and half a set is in effect: %v", refused, err)
		}
		for i, s := range sites {
			if refuses, ok := s.metric(t, "signet_profiles_refused"); !ok || refuses != float64(i) {
				t.Errorf("signet_profiles_refused of instance %d is %v, %v", i+1, refuses, ok)
			}
		}
		if _, said := first.run(t, "doctor"); !regexp.MustCompile(`(?ms)^careful +instances .*refused its files.*web.yaml:2`).MatchString(said) {
			t.Errorf("signet doctor of the first: %s", said)
		}
		if state, why, _ := last.readiness(t, "profiles"); state != "warning" || !strings.Contains(why, "web.yaml:2") {
			t.Errorf("/readyz says %s %s", state, why)
		}
	})
}

func has(profiles []client.Profile, name string) bool {
	for _, p := range profiles {
		if p.Name == name {
			return true
		}
	}
	return false
}
