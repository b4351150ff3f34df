package main

import (
	"fmt"
	"strings"
	"time"

	"signet.example/signet/pki"
)

// on formats a time for people, in UTC.
func on(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// span formats a validity for people.
func span(from, to time.Time) string {
	days := int(to.Sub(from).Round(time.Hour).Hours()) / 24
	length := fmt.Sprintf("%d days", days)
	switch {
	case days >= 2*365:
		length = fmt.Sprintf("%d years", (days+1)/365)
	case days < 3:
		length = to.Sub(from).Round(time.Minute).String()
	}
	return fmt.Sprintf("%s to %s (%s)", on(from), on(to), length)
}

// texts returns the values as text.
func texts[T fmt.Stringer](names []T) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = name.String()
	}
	return out
}

// values returns names as people write them.
func values(names []pki.Identifier) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = name.Value
	}
	return out
}

// title returns the names of a certificate for people, or its subject if it has none.
func title(names []pki.Identifier, subject string) string {
	if len(names) == 0 {
		return subject
	}
	return sentence(values(names))
}

// sentence joins names for people: "a, b and c".
func sentence(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
