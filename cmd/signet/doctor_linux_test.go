package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"signet.example/signet/internal/settings"
)

// A process that has ended is not waited for, even if its parent has not collected it.
func TestNobodyWaitsForAZombie(t *testing.T) {
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"ready":false}`)) }))
	defer listener.Close()
	config := new(settings.Config)
	config.Ops.Listen = strings.TrimPrefix(listener.URL, "http://")
	server := exec.Command("true")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := doctorCmd{PID: server.Process.Pid, Wait: duration(time.Hour)}
	if f, want := c.awaitReady(&app{ctx: ctx}, config), fmt.Sprintf("process %d has ended", c.PID); !strings.HasPrefix(f.Detail, want) {
		t.Errorf("%+v; want %q", f, want)
	}
	if err := server.Wait(); err != nil {
		t.Error(err)
	}
}
