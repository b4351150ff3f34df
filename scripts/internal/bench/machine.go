package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// machine describes the machine of the measurements.
type machine struct {
	CPUs     int     `json:"cpus"`
	CPU      string  `json:"cpu"`
	MemoryGB float64 `json:"mem_gb"`
	Go       string  `json:"go"`
	Postgres string  `json:"postgres"`
}

func describeMachine(ctx context.Context, database string) machine {
	m := machine{CPUs: runtime.NumCPU(), CPU: field("/proc/cpuinfo", "model name"), Go: runtime.Version()}
	if kb, err := strconv.ParseFloat(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 64); err == nil {
		m.MemoryGB = float64(int(kb/1e5)) / 10
	}
	if conn, err := pgx.Connect(ctx, database); err == nil {
		defer conn.Close(ctx)
		m.Postgres = conn.PgConn().ParameterStatus("server_version")
	}
	return m
}

func (r report) printHead(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "%s at %s: %d x %s, %.1f GB, %s, PostgreSQL %s\n", r.Bench, r.Commit, m.CPUs, m.CPU, m.MemoryGB, m.Go, m.Postgres)
}

func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// field reads "name : value" of a file in /proc.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// clockTick is USER_HZ, which Linux fixes at 100 for the times in /proc.
const clockTick = 10 * time.Millisecond

// stat returns the fields of /proc/PID/stat after the name of the program, which may hold any text.
func stat(pid int) []string {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

// cpuOf returns the processor time of a process so far; zero if there is no such process.
func cpuOf(pid int) time.Duration { return ticks(stat(pid), 11, 12) }

// cpuOfTree returns the processor time of a process and its children, including those that have ended.
func cpuOfTree(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	total := ticks(stat(pid), 11, 12, 13, 14)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, path := range stats {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if s := stat(child); len(s) > 14 && s[1] == strconv.Itoa(pid) {
			total += ticks(s, 11, 12, 13, 14)
		}
	}
	return total
}

func ticks(stat []string, fields ...int) time.Duration {
	var total time.Duration
	for _, f := range fields {
		if f < len(stat) {
			n, _ := strconv.ParseInt(stat[f], 10, 64) // the kernel writes numbers
			total += time.Duration(n) * clockTick
		}
	}
	return total
}

// rssOf returns the resident memory of a process in MB.
func rssOf(pid int) float64 {
	kb, err := strconv.ParseFloat(strings.TrimSuffix(field(filepath.Join("/proc", strconv.Itoa(pid), "status"), "VmRSS"), " kB"), 64)
	if err != nil {
		return 0
	}
	return kb / 1024
}
