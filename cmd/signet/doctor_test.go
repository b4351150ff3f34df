package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/internal/settings"
)

// Whose server answers is told by its signet.yaml; one of a version that does not say is ours, as far as anybody knows.
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
