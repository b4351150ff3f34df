package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

// The signet.yaml of a server tells whose it is; an earlier version, which does not say, is taken for ours.
func TestWhoseServerAnswers(t *testing.T) {
	config := &settings.Config{File: filepath.Join(t.TempDir(), "signet.yaml")}
	if id := config.Identity(); len(id) != 64 || strings.Contains(id, "/") {
		t.Errorf("the path can be read: %s", id)
	}
	other := &settings.Config{File: filepath.Join(t.TempDir(), "signet.yaml")}
	for _, test := range []struct{ answer, state, detail string }{
		{`{"ready":true,"config":"` + config.Identity() + `"}`, "good", "it runs and is ready"},
		{`{"ready":true,"config":"` + other.Identity() + `"}`, "wrong", "by the server of another signet.yaml"},
		{`{"ready":true}`, "careful", "it is of an older version; it runs and is ready"},
		{`{"ready":false}`, "wrong", "it runs and is not ready"},
	} {
		listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(test.answer)) }))
		config.Ops.Listen = strings.TrimPrefix(listener.URL, "http://")
		if f := checkReady(&app{ctx: t.Context()}, config); f.State != test.state || !strings.Contains(f.Detail, test.detail) {
			t.Errorf("%s: %+v", test.answer, f)
		}
		listener.Close()
	}
}

// The lists of off-line issuers are asked for too, as far as there are any, and an issuer with a URL of its own hides
// nothing.
func TestTheWorstURLIsTold(t *testing.T) {
	config := &settings.Config{PublicURL: "http://pki.example"}
	active := func(base string, online bool) client.Issuer {
		return client.Issuer{Label: "one", State: client.IssuerActive, Online: online, BaseURL: base}
	}
	answers := func(url string) error {
		switch {
		case strings.HasPrefix(url, "http://down.example/"):
			return errors.New("no answer")
		case strings.HasPrefix(url, "http://none.example/"):
			return pki.Errorf(pki.KindNotFound, "fetch", "404")
		}
		return nil
	}
	up, own, down, local := active("http://pki.example", true), active("http://own.example", true), active("http://down.example", true), active("http://127.0.0.1:1", true)
	other := local
	other.Label = "two"
	offline, listless := active("http://down.example", false), active("http://none.example", false)
	retired := down
	retired.State = client.IssuerRetired
	for name, test := range map[string]struct {
		issuers       []client.Issuer
		state, detail string
	}{
		"all":                    {[]client.Issuer{up, own, retired}, "good", "http://own.example, http://pki.example answers"},
		"one of its own":         {[]client.Issuer{own, down}, "careful", "http://down.example/crl/"},
		"loopback":               {[]client.Issuer{up, local, own}, "careful", "certificates of one point to http://127.0.0.1:1, which only this machine can reach"},
		"two of them":            {[]client.Issuer{local, up, other}, "careful", "certificates of one and two point to http://127.0.0.1:1, which only this machine can reach"},
		"loopback first":         {[]client.Issuer{local, down}, "careful", "http://down.example/crl/"},
		"off-line":               {[]client.Issuer{up, offline}, "careful", "http://down.example/crl/"},
		"off-line without lists": {[]client.Issuer{listless, up}, "good", "http://pki.example answers"},
		"no list of one in use":  {[]client.Issuer{active("http://none.example", true)}, "careful", "http://none.example/crl/"},
		"none":                   {[]client.Issuer{retired}, "careful", "no issuer"},
	} {
		if f := judgeURLs(config, test.issuers, answers); f.State != test.state || !strings.Contains(f.Detail, test.detail) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
