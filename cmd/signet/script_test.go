package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/internal/testport"
	"signet.example/signet/internal/testprogram"
)

// TestMain builds the program that the stories call, without the race detector: they are hundreds of short commands in
// a row, and took five minutes with it. Servers under load run with it in internal/server.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "signet-stories-")
	if err != nil {
		panic(err)
	}
	if _, err := testprogram.Build(dir, false); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	code := m.Run()
	os.RemoveAll(dir) // what stays behind is a temporary file
	os.Exit(code)
}

// TestScripts runs the user stories: testdata/script/*.txtar, each a person at a terminal.
func TestScripts(t *testing.T) {
	testscript.Run(t, stories("sqlite:signet.db", "testdata/script"))
}

// TestScriptsPostgres runs the life of a certificate, and that of an off-line root, once more, on the other database,
// and what only that one has: several instances.
func TestScriptsPostgres(t *testing.T) {
	server := testdb.Durable(t)
	for _, story := range []string{"life", "offline"} {
		testscript.Run(t, stories(server.EmptyURL(t), "", "testdata/script/"+story+".txtar"))
	}
	testscript.Run(t, stories(server.EmptyURL(t), "", "testdata/instances.txtar"))
}

// stories are the scripts of a directory, or some files, on one database.
func stories(database, dir string, files ...string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		Files:               files,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("DATABASE", database)
			return nil
		},
		Condition: func(name string) (bool, error) {
			kind, _, _ := strings.Cut(database, ":")
			return kind == name, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ports":         ports,
			"mode":          mode,
			"status":        status,
			"await":         await,
			"ready":         ready,
			"capture":       capture,
			"capture-error": captureError,
			"losing":        losing,
		},
	}
}

// ports NAME... sets each variable to a port that is free, and stays so until the script ends.
func ports(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		port, giveBack, err := testport.Claim()
		ts.Check(err)
		ts.Defer(giveBack)
		ts.Setenv(name, port)
	}
}

// mode OCTAL FILE... compares the permissions.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	for _, file := range args[1:] {
		info, err := os.Stat(ts.MkAbs(file))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); (got == args[0]) == neg {
			ts.Fatalf("%s has mode %s", file, got)
		}
	}
}

// status N COMMAND... runs a command that must end with exit status N.
func status(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		if exit, ok := err.(interface{ ExitCode() int }); ok {
			got = fmt.Sprint(exit.ExitCode())
		} else {
			got = err.Error()
		}
	}
	if (got == args[0]) == neg {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

// ready waits until the server of $SIGNET_CONFIG answers.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec("signet", "doctor", "--health")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the server is not ready: %v", err)
		}
	}
}

// await PORT waits until a process listens on it.
func await(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.Now().Add(time.Minute)
	for {
		conn, err := net.Dial("tcp", "127.0.0.1:"+args[0])
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("nobody listens on %s: %v", args[0], err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// capture NAME REGEXP sets a variable to what the last command printed in the first group.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	captureFrom(ts, "stdout", args)
}

// captureError is capture for standard error.
func captureError(ts *testscript.TestScript, neg bool, args []string) {
	captureFrom(ts, "stderr", args)
}

func captureFrom(ts *testscript.TestScript, output string, args []string) {
	found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile(output))
	if found == nil {
		ts.Fatalf("nothing on %s matches %s", output, args[1])
	}
	ts.Setenv(args[0], found[1])
}
