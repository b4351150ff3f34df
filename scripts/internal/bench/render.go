package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// render writes docs/BENCHMARKS.md and its pictures from the JSON of past runs, docs/benchmarks/*.json: one section a
// file. scripts/bench render calls it.
func render(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "benchmarks", "*.json"))
	if err != nil {
		return err
	}
	var page strings.Builder
	page.WriteString(renderHead)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var r report
		if err := json.Unmarshal(text, &r); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		picture := strings.TrimSuffix(filepath.Base(file), ".json") + ".svg"
		if err := os.WriteFile(filepath.Join(dir, "benchmarks", picture), []byte(r.svg()), 0o644); err != nil {
			return err
		}
		page.WriteString(r.section("benchmarks/" + picture))
	}
	notes, err := os.ReadFile(filepath.Join(dir, "benchmarks", "notes.md"))
	if err != nil {
		return err
	}
	page.Write(notes)
	return os.WriteFile(filepath.Join(dir, "BENCHMARKS.md"), []byte(page.String()), 0o644)
}

const renderHead = `# Benchmarks

Rendered by ` + "`scripts/bench render`" + ` from ` + "`docs/benchmarks/*.json`" + `; do not edit. Each table is one run of
` + "`scripts/bench NAME --json FILE`" + ` on one machine, median of three, with the physical limit measured in the same run: callers,
server and PostgreSQL (fsync on) share the processors. Compare ratios and CPU per operation, not figures of different machines.
What is missed, and why, is at the end.

`

func (r report) section(picture string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "## %s\n\n`scripts/bench %s`, commit %s, %d x %s, %.0f GB, %s, PostgreSQL %s\n\n![%s](%s)\n\n", r.Bench, r.Bench, r.Commit,
		r.Machine.CPUs, r.Machine.CPU, r.Machine.MemoryGB, r.Machine.Go, r.Machine.Postgres, r.Bench, picture)
	s.WriteString("| case | value | spread | p50 / p99 ms | server CPU us | database CPU us | callers CPU us | RSS MB | target | of the limit |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, c := range r.Cases {
		fmt.Fprintf(&s, "| %s | %s %s | %s to %s | %s | %s | %s | %s | %s | %s | %s |\n", c.Name, figure(c.Value), c.Unit, figure(c.Spread[0]), figure(c.Spread[1]),
			c.latency(), optional(c.ServerCPU), optional(c.DatabaseCPU), optional(c.CallersCPU), optional(c.RSS), optional(c.Target), c.share())
	}
	s.WriteString("\n")
	return s.String()
}

func (r result) latency() string {
	if r.P50 == 0 && r.P99 == 0 {
		return ""
	}
	return figure(r.P50) + " / " + figure(r.P99)
}

func (r result) share() string {
	if r.Limit == nil {
		return ""
	}
	if r.RatioSpread != nil {
		return fmt.Sprintf("%.3f (%.3f to %.3f) of %s", r.Ratio, r.RatioSpread[0], r.RatioSpread[1], r.Limit.Name)
	}
	return fmt.Sprintf("%.2f of %s", r.Ratio, r.Limit.Name)
}

func optional(value float64) string {
	if value == 0 {
		return ""
	}
	return figure(value)
}

// figure writes three digits that count.
func figure(value float64) string {
	switch {
	case value >= 100:
		return fmt.Sprintf("%.0f", value)
	case value >= 10:
		return fmt.Sprintf("%.1f", value)
	}
	return fmt.Sprintf("%.2f", value)
}

// svg draws a bar for each case against the largest of its unit, with a line where the target is.
func (r report) svg() string {
	const row, label, width = 22, 260, 420
	largest := make(map[string]float64)
	for _, c := range r.Cases {
		largest[c.Unit] = slices.Max([]float64{largest[c.Unit], c.Value, c.Target})
	}
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", label+width+120, row*len(r.Cases)+10)
	for i, c := range r.Cases {
		y, scale := i*row+5, width/max(largest[c.Unit], 1e-9)
		fmt.Fprintf(&s, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%.1f" height="%d" fill="#3b6ea5"/>`, label-8, y+14, c.Name, label, y+2, c.Value*scale, row-6)
		if c.Target > 0 {
			x := label + c.Target*scale
			fmt.Fprintf(&s, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#c0392b" stroke-width="2"/>`, x, y, x, y+row-2)
		}
		fmt.Fprintf(&s, `<text x="%.1f" y="%d">%s %s</text>`+"\n", label+max(c.Value, c.Target)*scale+6, y+14, figure(c.Value), c.Unit)
	}
	s.WriteString("</svg>\n")
	return s.String()
}
