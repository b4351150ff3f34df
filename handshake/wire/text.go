package wire

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Printer writes steps for a person. Its lines are at most Width columns wide.
type Printer struct {
	W      io.Writer
	Width  int  // 0 is 80
	Colour bool // ANSI colours; only for a terminal
}

// Arrows point as in the figures of the RFCs: the client is on the left.
var arrows = map[Role]string{Client: "→", Server: "←"}

// Step prints one step and returns the writer's error.
func (p *Printer) Step(s Step) error {
	var b strings.Builder
	width := p.Width
	if width < 40 {
		width = 80
	}
	elapsed := fmt.Sprintf("%.1f ms", s.Millis)
	head := fmt.Sprintf("%2d  %s", s.Number, s.Title) + p.mark(s.Outcome)
	gap := max(2, width-utf8.RuneCountInString(head)-len(elapsed))
	fmt.Fprintf(&b, "%s%s%s\n", p.paint(s.Outcome, head), strings.Repeat(" ", gap), p.dim(elapsed))
	for _, text := range s.messageLines() {
		for i, line := range wrap(text, width-6) {
			if i > 0 {
				line = "  " + line
			}
			fmt.Fprintf(&b, "    %s\n", p.dim(line))
		}
	}
	for _, text := range s.Says {
		for _, line := range wrap(text, width-4) {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	for _, f := range s.Facts {
		p.fact(&b, f, width)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(p.W, b.String())
	return err
}

const nameColumn = 16

func (p *Printer) fact(b *strings.Builder, f Fact, width int) {
	name := f.Name
	for _, value := range f.Values {
		for i, line := range wrap(value, width-4-nameColumn) {
			if i > 0 {
				name = ""
			}
			fmt.Fprintf(b, "    %s%s\n", p.dim(fmt.Sprintf("%-*s", nameColumn, name)), line)
		}
		name = ""
	}
}

// messageLines returns one line for every run of messages in one direction. Braces mean encrypted, as in the RFCs.
func (s Step) messageLines() []string {
	var lines []string
	for i, m := range s.Messages {
		word := fmt.Sprintf("%s %d", m.Name, m.Octets)
		if m.Encrypted {
			word = "{" + m.Name + "} " + fmt.Sprint(m.Octets)
		}
		if i > 0 && s.Messages[i-1].From == m.From {
			lines[len(lines)-1] += ", " + word
			continue
		}
		lines = append(lines, arrows[m.From]+" "+word)
	}
	return lines
}

// wrap breaks a text at spaces into lines of at most width columns. A longer word stays whole: it is a name or a
// fingerprint that a reader may copy. Much of the text is the peer's: nothing in it reaches the terminal as a command.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(strings.Map(visible, text)) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}

// mark writes the outcome in letters, for readers without colour.
func (p *Printer) mark(o Outcome) string {
	return map[Outcome]string{Warning: "  (!)", Failed: "  (failed)"}[o]
}

func (p *Printer) paint(o Outcome, text string) string {
	if !p.Colour {
		return text
	}
	code, marked := map[Outcome]string{Warning: "\x1b[1;33m", Failed: "\x1b[1;31m"}[o]
	if !marked {
		code = "\x1b[1m"
	}
	return code + text + "\x1b[0m"
}

func (p *Printer) dim(text string) string {
	if !p.Colour {
		return text
	}
	return "\x1b[2m" + text + "\x1b[0m"
}
