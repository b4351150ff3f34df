package ceremony

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"signet.example/signet/pki"
)

// The paper: pages of 78 columns and 60 lines, which fit A4 and Letter in any fixed font of 10 points, separated by
// form feeds. Every page names its record and has a place for initials.
const (
	columns   = 78
	pageLines = 60
	headLines = 3 // title, number, blank
	footLines = 3 // blank, digest or remark, initials
)

// Paper returns a record as pages. last is the digest of its last line. It is printed on the last page, beside the
// signatures, and binds the paper to the file.
func Paper(steps []Step, last string) []byte {
	p := &paper{}
	for _, s := range steps {
		p.step(s)
	}
	p.signatures(steps, last)
	return p.pages(titleOf(steps), rehearsed(steps))
}

func titleOf(steps []Step) string {
	return fmt.Sprintf("SIGNET CEREMONY  %s", fact(steps, StepBegin, "record"))
}

func rehearsed(steps []Step) bool { return fact(steps, StepBegin, "rehearsal") != "" }

// paper collects blocks of lines. A block that fits on a page is not split.
type paper struct{ blocks [][]string }

func (p *paper) block(lines ...string) { p.blocks = append(p.blocks, lines) }

func (p *paper) step(s Step) {
	lines := []string{fmt.Sprintf("%2d  %-12s  %s", s.N, strings.ToUpper(s.Name), s.At.Format("2006-01-02 15:04:05 UTC"))}
	lines = append(lines, wrapped(s.Text, "    ")...)
	for _, f := range s.Facts {
		lines = append(lines, aligned(f.Name, f.Value)...)
	}
	p.block(append(lines, "")...)
	p.rules(s.Rules)
	for _, o := range s.Attached {
		p.octets(o)
	}
}

// rules writes one rule per line. Rules that do not apply are only named.
func (p *paper) rules(rules []Rule) {
	if len(rules) == 0 {
		return
	}
	var lines, others []string
	for _, r := range rules {
		if r.Outcome == "not applicable" || r.Outcome == "not in force" {
			others = append(others, r.Rule)
			continue
		}
		lines = append(lines, fmt.Sprintf("      %-8s %s", r.Outcome, r.Rule))
		for _, more := range []string{r.Citation, r.Details} {
			if more != "" && r.Outcome != "passed" {
				lines = append(lines, wrapped(more, "               ")...)
			}
		}
	}
	if len(others) > 0 {
		lines = append(lines, fmt.Sprintf("      %d more rules are about something else, or not in force:", len(others)))
		lines = append(lines, wrapped(strings.Join(others, ", "), "        ")...)
	}
	for _, line := range append(lines, "") { // one block per line, so that a page may end at any of them
		p.block(line)
	}
}

// octets writes octets in full: those to be signed in hexadecimal, for reading aloud, and those that were brought or
// signed in PEM, so that they can be typed in again.
func (p *paper) octets(o Octets) {
	p.block(fmt.Sprintf("    %s, %d octets of DER (%s)", o.Name, len(o.DER), o.Type), "    sha256 "+o.SHA256)
	if strings.HasPrefix(o.Type, "TBS") {
		for at := 0; at < len(o.DER); at += 24 {
			line := hex.EncodeToString(o.DER[at:min(at+24, len(o.DER))])
			var groups []string
			for len(line) > 8 {
				groups, line = append(groups, line[:8]), line[8:]
			}
			p.block(fmt.Sprintf("    %05x  %s", at, strings.Join(append(groups, line), " ")))
		}
	} else {
		kind := o.Type
		if kind == TypeIssuer {
			kind = TypeCertificate
		}
		for line := range strings.Lines(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: o.DER}))) {
			p.block("    " + strings.TrimSuffix(line, "\n"))
		}
	}
	p.block("")
}

func (p *paper) signatures(steps []Step, last string) {
	lines := []string{
		strings.Repeat("=", columns),
		fmt.Sprintf("This record has %d steps. The SHA-256 of its last line is", len(steps)),
		"", "    " + spaced(last[:32]), "    " + spaced(last[32:]), "",
		"Each line of the file carries the digest of the line before it: this number", "stands for all of them. Compare it with: signet ceremony verify RECORD",
	}
	p.block(lines...)
	for _, s := range steps {
		for _, f := range s.Facts {
			if s.Name == StepBegin && f.Name == "present" {
				p.block("", "", "", "    "+strings.Repeat("_", 38)+"    "+strings.Repeat("_", 24),
					fmt.Sprintf("    %-38s    date and place", clip(f.Value, 38)))
			}
		}
	}
}

func spaced(digits string) string {
	var groups []string
	for ; len(digits) > 8; digits = digits[8:] {
		groups = append(groups, digits[:8])
	}
	return strings.Join(append(groups, digits), " ")
}

// pages divides the blocks into pages and adds head and foot to each.
func (p *paper) pages(title string, rehearsal bool) []byte {
	const room = pageLines - headLines - footLines
	var pages [][]string
	var page []string
	for _, block := range p.blocks {
		if len(page) > 0 && len(page)+len(block) > room && len(block) <= room {
			pages, page = append(pages, page), nil
		}
		for _, line := range block {
			if len(page) == room {
				pages, page = append(pages, page), nil
			}
			page = append(page, clip(line, columns))
		}
	}
	pages = append(pages, page)
	foot := ""
	if rehearsal {
		foot = "REHEARSAL: NOTHING WAS SIGNED"
	}
	var out bytes.Buffer
	for i, lines := range pages {
		number := fmt.Sprintf("page %d of %d", i+1, len(pages))
		fmt.Fprintf(&out, "%-*s%s\n%s\n\n", columns-len(number), clip(title, columns-len(number)-1), number, strings.Repeat("=", columns))
		for _, line := range lines {
			out.WriteString(line + "\n")
		}
		out.WriteString(strings.Repeat("\n", room-len(lines)+1))
		fmt.Fprintf(&out, "%s\n%-*s\n", foot, columns, "initials:  ______   ______   ______   ______   ______   ______")
		if i+1 < len(pages) {
			out.WriteByte('\f')
		}
	}
	return out.Bytes()
}

// aligned returns the lines of a fact: its name, and its value beside or below it.
func aligned(name, value string) []string {
	const width = 20
	indent := strings.Repeat(" ", 6+width)
	if len(name) > width-2 || len(value) > columns-len(indent) && len(value) <= columns-8 && !strings.Contains(value, " ") { // keep a digest on one line
		indent = "        "
		return append([]string{"      " + name}, wrapped(value, indent)...)
	}
	lines := wrapped(value, indent)
	lines[0] = fmt.Sprintf("      %-*s", width, name) + strings.TrimPrefix(lines[0], indent)
	return lines
}

// wrapped breaks text at spaces, and splits words that are too long for a line. It returns at least one line.
func wrapped(text, indent string) (lines []string) {
	room := columns - len(indent)
	line := ""
	for word := range strings.FieldsSeq(text) {
		word = printable(word)
		for {
			if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= room {
				line += " " + word
				break
			}
			if line != "" {
				lines, line = append(lines, indent+line), ""
			}
			if utf8.RuneCountInString(word) <= room {
				line = word
				break
			}
			runes := []rune(word)
			lines, word = append(lines, indent+string(runes[:room])), string(runes[room:])
		}
	}
	if line != "" || len(lines) == 0 {
		lines = append(lines, indent+line)
	}
	return lines
}

// printable replaces unprintable characters, so that a typed name cannot move the printer's head or reorder the text
// that people sign.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || pki.Unprintable(r) {
			return '?'
		}
		return r
	}, text)
}

func clip(text string, most int) string {
	text = printable(text)
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "~"
}

func on(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
