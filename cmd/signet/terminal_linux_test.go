package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/term"
)

// terminal opens a pseudo-terminal: what is written to the first is typed at the second.
func terminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	var number, locked uint32
	for request, argument := range map[uintptr]*uint32{syscall.TIOCGPTN: &number, syscall.TIOCSPTLCK: &locked} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, keyboard.Fd(), request, uintptr(unsafe.Pointer(argument))); errno != 0 {
			t.Fatal(errno)
		}
	}
	if screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	screens = append(screens, screen)
	return keyboard, screen
}

// screens stay open: who reads from one when a question is interrupted reads until the process ends, and must not meet
// another file of its number.
var screens []*os.File

// Whoever interrupts the question for a passphrase gets back a terminal that shows what is typed.
func TestInterruptedPassphrase(t *testing.T) {
	_, screen := terminal(t)
	state := func() string {
		t.Helper()
		s, err := term.GetState(int(screen.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(*s)
	}
	shown := state()
	ctx, interrupt := context.WithCancel(t.Context())
	var notes bytes.Buffer
	a := &app{ctx: ctx, in: screen, err: &notes, getenv: func(string) string { return "" }}
	asked := make(chan error, 1)
	go func() {
		_, err := a.passphrase("", false)
		asked <- err
	}()
	for deadline := time.Now().Add(10 * time.Second); state() == shown && time.Now().Before(deadline); { // until the question is there
		time.Sleep(time.Millisecond)
	}
	interrupt()
	select {
	case err := <-asked:
		if !errors.Is(err, context.Canceled) || state() != shown {
			t.Errorf("interrupted: %v; the terminal is as it was: %t", err, state() == shown)
		}
	case <-time.After(10 * time.Second):
		t.Error("the question goes on")
	}
}
