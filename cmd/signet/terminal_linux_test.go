package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/term"

	"signet.example/signet/pki"
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
	screens.Lock()
	defer screens.Unlock()
	screens.open = append(screens.open, screen)
	return keyboard, screen
}

// screens stay open: a goroutine that reads from one when a question is interrupted reads until the process ends, and
// must not meet another file of its number.
var screens struct {
	sync.Mutex
	open []*os.File
}

// After an interrupt at the prompt for a passphrase the terminal echoes again.
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
	// Until the question is there.
	for deadline := time.Now().Add(time.Minute); state() == shown && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	interrupt()
	select {
	case err := <-asked:
		if !errors.Is(err, context.Canceled) || state() != shown {
			t.Errorf("interrupted: %v; the terminal is as it was: %t", err, state() == shown)
		}
	case <-time.After(time.Minute):
		t.Error("the question goes on")
	}
}

// A question repeats names that others chose: the terminal shows them, and does not obey them.
func TestQuestionsAreNotObeyed(t *testing.T) {
	keyboard, screen := terminal(t)
	var notes bytes.Buffer
	a := &app{ctx: t.Context(), in: screen, err: &notes}
	if _, err := keyboard.WriteString("yes\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := a.ask("Revoke CN=a\x1b[2J\u202eb\nOTHER?\n")
	if want := "Revoke CN=a\\x1b[2J\\u202eb\nOTHER?\n"; err != nil || answer != "yes" || notes.String() != want {
		t.Errorf("asked %q, answered %q, %v", notes.String(), answer, err)
	}
}

// Whoever declines at a terminal is told what an assent is there.
func TestADeclinedQuestion(t *testing.T) {
	keyboard, screen := terminal(t)
	a := &app{ctx: t.Context(), in: screen, err: new(bytes.Buffer)}
	if _, err := keyboard.WriteString("n\n"); err != nil {
		t.Fatal(err)
	}
	if err := a.sure("delete issuer", false, "Delete it?"); pki.KindOf(err) != pki.KindRefused || hintOf(err) != "answer yes to do it, or give --yes" {
		t.Errorf("%v; next: %s", err, hintOf(err))
	}
}

// endsBeside has ended, just after a goroutine that waited for its end or an answer was woken by the answer.
type endsBeside struct{ context.Context }

func (endsBeside) Done() <-chan struct{} { return nil }
func (endsBeside) Err() error            { return context.Canceled }

// An interrupted question is not answered, whatever was typed with the interrupt.
func TestInterruptedAnswer(t *testing.T) {
	answer, err := interruptible(endsBeside{t.Context()}, func() (string, error) { return "yes", nil })
	if answer != "" || !errors.Is(err, context.Canceled) {
		t.Errorf("answered %q, %v", answer, err)
	}
}

// The first interrupt ends the questions of init and of handshake connect, too.
func TestInterruptedQuestions(t *testing.T) {
	_, cert := certified(t, "app.example")
	address := listen(t, func(conn net.Conn) { tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake() })
	for _, tt := range []struct {
		question  []string
		status    int
		arguments []string
	}{
		{[]string{"Base URL at which"}, 7, []string{"init", "--dir", filepath.Join(t.TempDir(), "made")}},
		{[]string{`"other.example" was wanted`, "Continue anyway?"}, 2, []string{"handshake", "connect", address, "--servername", "other.example", "--offline", "--trace", "none"}},
	} {
		t.Run(tt.arguments[0], func(t *testing.T) {
			s := signetAt(t, tt.arguments...)
			for _, text := range tt.question {
				s.sees(text, true)
			}
			s.types("\x03")
			s.ends(tt.status)
		})
	}
}

// seated is a person at a terminal, in front of a program.
type seated struct {
	t                *testing.T
	keyboard, screen *os.File
	program          *exec.Cmd
	before           syscall.Termios
	said             chan byte
	all              strings.Builder
}

// signetAt starts signet at a terminal that it is the foreground of.
func signetAt(t *testing.T, arguments ...string) *seated {
	t.Helper()
	s := &seated{t: t, said: make(chan byte, 1<<20)}
	s.keyboard, s.screen = terminal(t)
	s.before = s.termios()
	s.program = exec.Command("signet", arguments...)
	s.program.Stdin, s.program.Stdout, s.program.Stderr = s.screen, s.screen, s.screen
	s.program.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SIGNET_") }), "HOME="+t.TempDir())
	s.program.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.program.Process.Kill() }) // usually it has ended
	go func() {
		buffer := make([]byte, 1)
		for {
			if _, err := s.keyboard.Read(buffer); err != nil {
				return
			}
			s.said <- buffer[0]
		}
	}()
	return s
}

func (s *seated) termios() (now syscall.Termios) {
	s.t.Helper()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, s.screen.Fd(), syscall.TCGETS, uintptr(unsafe.Pointer(&now))); errno != 0 {
		s.t.Fatal(errno)
	}
	return now
}

// sees waits until a text is on the screen, and then until the terminal echoes, or not, as it is to.
func (s *seated) sees(text string, echo bool) {
	s.t.Helper()
	deadline := time.After(time.Minute)
	for part := ""; !strings.Contains(part, text); {
		select {
		case octet := <-s.said:
			part += string(octet)
			s.all.WriteByte(octet)
		case <-deadline:
			s.t.Fatalf("%q never comes: %q", text, s.all.String())
		}
	}
	for s.termios().Lflag&syscall.ECHO != 0 != echo {
		select {
		case <-deadline:
			s.t.Fatalf("after %q the terminal echoes: %t", text, !echo)
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *seated) types(text string) {
	s.t.Helper()
	if _, err := s.keyboard.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

// ends waits for the program, and finds the terminal as it was, and nothing secret on the screen.
func (s *seated) ends(status int) {
	s.t.Helper()
	done := make(chan struct{})
	go func() { _ = s.program.Wait(); close(done) }() // how it ended is in ProcessState
	select {
	case <-done:
	case <-time.After(time.Minute):
		s.t.Fatalf("the program goes on: %q", s.all.String())
	}
	if got := s.program.ProcessState.ExitCode(); got != status {
		s.t.Errorf("status %d, want %d: %q", got, status, s.all.String())
	}
	if now := s.termios(); now != s.before {
		s.t.Errorf("the terminal is %+v, and was %+v", now, s.before)
	}
	for len(s.said) > 0 {
		s.all.WriteByte(<-s.said)
	}
	if strings.Contains(s.all.String(), "horse") {
		s.t.Errorf("the passphrase is on the screen: %q", s.all.String())
	}
}

// A ceremony at a terminal: the passphrase is not shown, what is asked afterwards is, and a key stroke that interrupts
// ends it at every question, with the terminal as it was and nothing signed.
func TestCeremonyAtATerminal(t *testing.T) {
	const passphrase, interrupt = "correct horse\n", "\x03"
	questions := []struct {
		says        string
		hidden      bool
		answer      string
		interrupted int // status
	}{
		{"Passphrase of the keys: ", true, passphrase, 7}, {"Once more: ", true, passphrase, 7},
		{"Make the key softkey:root (ecdsa-p384)?\r\nType yes to continue: ", false, "yes\n", 3}, {"Type yes to continue: ", false, "yes\n", 3},
	}
	for stop := range len(questions) + 1 {
		t.Run(fmt.Sprintf("%d answers", stop), func(t *testing.T) {
			t.Parallel()
			s := signetAt(t, "ceremony", "root", "--dir", filepath.Join(t.TempDir(), "root"), "--common-name", "Example Root CA 1", "--base-url", "http://pki.example", "--present", "Ada")
			for _, q := range questions[:stop] {
				s.sees(q.says, !q.hidden)
				s.types(q.answer)
			}
			if stop == len(questions) {
				s.ends(exitOK)
				return
			}
			s.sees(questions[stop].says, !questions[stop].hidden)
			s.types(interrupt)
			s.ends(questions[stop].interrupted)
		})
	}
}
