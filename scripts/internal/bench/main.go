// Command bench measures Signet beside the physical limit of the same machine in the same run. The ratio of the two and
// the CPU time per operation count, so that noise of the machine cannot mislead. scripts/bench starts it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// groups are the groups of measurements; one file each.
var groups = map[string]func(context.Context, *bench) error{
	"handshake":  shake,
	"inventory":  askInventory,
	"issue":      issue,
	"limits":     limits,
	"ocsp":       answering,
	"revocation": revocations,
}

// bench is one run: its settings and its results.
type bench struct {
	quick        bool
	certificates int    // of the inventory, 0: a million; and issued in one go by issue, 0: none
	only         string // cases whose name holds this, and limits
	signet       string // path of the binary under test
	database     string // URL of an empty PostgreSQL with every durability on
	postgresPID  int    // of its postmaster
	dir          string // for everything that is written; removed by the script
	profiles     string // directory for CPU profiles of the process under test and of the callers; empty: none
	report       report
}

func main() {
	b := &bench{}
	debug.SetGCPercent(400) // the callers' garbage collection is not to be measured
	var file string
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.BoolVar(&b.quick, "quick", false, "end within two minutes")
	flags.StringVar(&b.only, "only", "", "measure only cases whose name holds this, and limits")
	flags.IntVar(&b.certificates, "certificates", 0, "how many the inventory holds; for issue: how many to issue in one go, to see what memory does (0: none)")
	flags.StringVar(&file, "json", "", "write the result here too")
	flags.StringVar(&b.signet, "signet", "", "binary under test")
	flags.StringVar(&b.database, "database", "", "URL of an empty PostgreSQL")
	flags.IntVar(&b.postgresPID, "postgres-pid", 0, "process id of its postmaster")
	flags.StringVar(&b.dir, "dir", os.TempDir(), "directory for files")
	flags.StringVar(&b.profiles, "profiles", "", "write CPU profiles of each issuing case, server and callers, into this directory")
	if len(os.Args) == 3 && os.Args[1] == "render" {
		if err := render(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	name, rest := "", []string{}
	for _, arg := range os.Args[1:] { // the name may stand anywhere among the flags of the script
		if _, known := groups[arg]; name == "" && (known || arg == "all") {
			name = arg
			continue
		}
		rest = append(rest, arg)
	}
	flags.Parse(rest) // exits on an error
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.run(ctx, name, file); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context, name, file string) error {
	names := sortedNames()
	if name == "" {
		return errors.New("name what to measure: all, " + strings.Join(names, ", "))
	}
	if name != "all" {
		names = []string{name}
	}
	b.report = report{Bench: name, Commit: commit(), Machine: describeMachine(ctx, b.database)}
	b.report.printHead(os.Stdout)
	if err := b.fillWAL(ctx); err != nil {
		return fmt.Errorf("fill the write-ahead log: %w", err)
	}
	for _, n := range names {
		if err := groups[n](ctx, b); err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(b.report, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// fillWAL makes PostgreSQL's log as long as that of a database that ran for a while, which reuses its files. A new database
// creates each file of 16 MB when it is needed, and no transaction commits for some 60 ms: every second, while
// certificates are issued.
func (b *bench) fillWAL(ctx context.Context) (err error) {
	conn, err := pgx.Connect(ctx, b.database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	for range 60 {
		if _, err := conn.Exec(ctx, `SELECT pg_logical_emit_message(false, 'bench', ''), pg_switch_wal()`); err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, `CHECKPOINT`)
	return err
}

func sortedNames() []string {
	var names []string
	for name := range groups {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
