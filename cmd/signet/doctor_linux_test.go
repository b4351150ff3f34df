package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/internal/settings"
)

// A process that has ended is not waited for, even if its parent has not collected it, and another server of the same
// configuration is not taken for it.
func TestNobodyWaitsForAZombie(t *testing.T) {
	config := &settings.Config{File: filepath.Join(t.TempDir(), "signet.yaml")}
	ready := `{"ready":true,"config":"` + config.Identity() + `"}`
	for _, test := range []struct{ answer, detail string }{
		{`{"ready":false}`, "process %d has ended; it runs and is not ready"},
		{ready, "process %d has ended, and another one answers as this server"},
		{"off", "process %d has ended; ops.listen is off"},
	} {
		listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(test.answer)) }))
		defer listener.Close()
		config.Ops.Listen = strings.TrimPrefix(listener.URL, "http://")
		if test.answer == "off" {
			config.Ops.Listen = "off"
		}
		server := exec.Command("true")
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		awaitZombie(t, server.Process)
		c := doctorCmd{PID: server.Process.Pid, Wait: duration(time.Hour)}
		if f, want := c.awaitReady(&app{ctx: t.Context()}, config), fmt.Sprintf(test.detail, c.PID); f.State != "wrong" || !strings.HasPrefix(f.Detail, want) {
			t.Errorf("%+v; want %q", f, want)
		}
		if err := server.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// awaitZombie waits until a process has ended; it is not collected.
func awaitZombie(t *testing.T, process *os.Process) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !hasEnded(process); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("process %d does not end", process.Pid)
			return
		}
	}
}

// A process that ends while the ops listener answers is not ready; one that runs is.
func TestAServerThatEndsWhileItIsAsked(t *testing.T) {
	config := &settings.Config{File: filepath.Join(t.TempDir(), "signet.yaml")}
	server := exec.Command("cat")
	input, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	var ends atomic.Bool
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if ends.Load() {
			input.Close()
			awaitZombie(t, server.Process)
		}
		_, _ = w.Write([]byte(`{"ready":true,"config":"` + config.Identity() + `"}`))
	}))
	defer listener.Close()
	config.Ops.Listen = strings.TrimPrefix(listener.URL, "http://")
	c := doctorCmd{PID: server.Process.Pid, Wait: duration(time.Hour)}
	if f := c.awaitReady(&app{ctx: t.Context()}, config); f.State != "good" {
		t.Errorf("while it runs: %+v", f)
	}
	ends.Store(true)
	if f := c.awaitReady(&app{ctx: t.Context()}, config); f.State != "wrong" {
		t.Errorf("when it has ended: %+v", f)
	}
	if err := server.Wait(); err != nil {
		t.Error(err)
	}
}
