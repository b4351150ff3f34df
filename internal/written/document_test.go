package written_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"signet.example/signet/internal/written"
)

type inner struct {
	Depth int `yaml:"depth"`
}

type form struct {
	Name  string        `yaml:"name"`
	Never string        `yaml:"-"`
	Wait  time.Duration `yaml:"wait"`
	On    bool          `yaml:"on"`
	Names []string      `yaml:"names"`
	More  *inner        `yaml:"more"`
	Less  inner         `yaml:"less"`

	Depths map[string]int `yaml:"depths"`

	inner `yaml:",inline"`
}

const endless = "its aliases stand for more than 100000 values: one may contain itself"

// bomb is lines each of which merges the one before it ten times.
func bomb() string {
	text := "depths: &l0 {a: 1}\n"
	for i := 1; i < 9; i++ {
		text += fmt.Sprintf("l%d: &l%d {<<: [%s]}\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*l%d, ", i-1), 10), ", "))
	}
	return text
}

func TestMistakes(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"nothing wrong", "name: a\nwait: 2d\nnames: [b]\nmore: {depth: 1}\non: true\ndepths: {any: 1}", ""},
		{"nothing at all", "# later", ""},
		{"null", "wait:\nname: ~", ""},
		{"letters swapped", "naem: a", "line 1: naem: there is no such field here; did you mean name?"},
		{"a letter too many", "namme: a", "line 1: namme: there is no such field here; did you mean name?"},
		{"further in", "more:\n  deph: 1", "line 2: more.deph: there is no such field here; did you mean depth?"},
		{"nothing near", "colour: red", "line 1: colour: there is no such field here"},
		{"short and near nothing", "xy: 1", "line 1: xy: there is no such field here"},
		{"two as near, the first of the alphabet", "nameX: a", "line 1: nameX: there is no such field here; did you mean name?"},
		{"not of the file", "never: a", "line 1: never: there is no such field here"},
		{"a dash", "-: a", "line 1: -: there is no such field here"},
		{"several, from the top", "x: 1\nname: [a]\nnames: b", `line 1: x: there is no such field here|line 2: name: a list is not what belongs here: want one text|line 3: names: "b" is not what belongs here: want a list`},
		{"number", "depth: deep", `line 1: depth: "deep" is not what belongs here: want a number`},
		{"truth", "on: perhaps", `line 1: on: "perhaps" is not what belongs here: want true or false`},
		{"fields", "more: 3", `line 1: more: "3" is not what belongs here: want fields, each as NAME: VALUE`},
		{"duration", "wait: 3 days", `line 1: wait: "3 days" is not a duration such as 90s, 30m, 24h, 7d or 1y`},
		{"duration, negative", "wait: -3s", `line 1: wait: "-3s" is not a duration such as 90s, 30m, 24h, 7d or 1y`},
		{"durations", "wait: [3s]", `line 1: wait: a list is not what belongs here: want a duration such as 24h`},
		{"item", "names:\n- a\n- {b: c}", `line 3: names[1]: a mapping is not what belongs here: want one text`},
		{"in a map", "depths: {any: deep}", `line 1: depths.any: "deep" is not what belongs here: want a number`},
		{"twice", "name: a\nname: b", "line 2: name: stands here twice"},
		{"no fields", "hello", `line 1: "hello" is not what belongs here: want fields, each as NAME: VALUE`},
		{"no YAML", "name: [", "line 1: did not find expected node content"},
		{"two documents", "name: a\n---\nname: b", "line 2: it holds more than one document, and one is wanted"},
		{"two documents and an empty one", "name: a\n---\n---\nname: b", "line 3: it holds more than one document, and one is wanted"},
		{"an empty document behind it", "name: a\n---\n# no more", ""},
		{"a document that says it is nothing", "name: a\n---\n~", "line 2: it holds more than one document, and one is wanted"},
		{"no YAML behind it", "name: a\n---\nname: [", "line 3: did not find expected node content"},
		{"a mapping that contains itself", "name: a\nmore: &n {<<: *n}", "line 2: " + endless},
		{"a mapping that contains itself, and a field twice", "name: a\nname: a\nmore: &n {<<: *n}", "line 3: " + endless},
		{"a merge twice", "more: &m {depth: 1}\nless: {<<: *m, <<: *m}", "line 2: less.<<: stands here twice"},
		{"merges that nest", "l0: &l0 {depth: 1}\nless: &l1 {" + strings.Repeat("<<: *l0, ", 9) + "}", "line 1: l0: there is no such field here|" + strings.TrimSuffix(strings.Repeat("line 2: less.<<: stands here twice|", 8), "|")},
		{"lists of merges that nest", bomb(), "line 6: " + endless},
		{"a long list again and again", "names: &n [" + strings.Repeat("a, ", 1000) + "]\n" + strings.Repeat("name: *n\n", 150), "line 101: " + endless},
		{"a list that is longer than what aliases may stand for", "names: [" + strings.Repeat("a, ", 100_001) + "]", ""},
		{"a merge of a number", "less: {<<: 3}", `line 1: less: "3" is not what belongs here: want fields, each as NAME: VALUE`},
		{"a merge of an alias of a list", "more: {<<: &l [{depth: 3}]}\nless: {<<: *l}", "line 2: less: a list is not what belongs here: want fields, each as NAME: VALUE"},
		{"merges of lists", "more: &m {deph: 1}\nless: {<<: [*m, [*m]]}", "line 1: more.deph: there is no such field here; did you mean depth?|line 2: less.deph: there is no such field here; did you mean depth?|line 2: less: a list is not what belongs here: want fields, each as NAME: VALUE"},
		{"merge", "more: &m {deph: 1}\nless: {<<: *m}", "line 1: more.deph: there is no such field here; did you mean depth?|line 2: less.deph: there is no such field here; did you mean depth?"},
	} {
		var into form
		_, mistakes := written.Read([]byte(tc.text), &into)
		var got []string
		for _, m := range mistakes {
			got = append(got, m.String())
		}
		if strings.Join(got, "|") != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
		if len(mistakes) > 0 && fmt.Sprint(into) != fmt.Sprint(form{}) {
			t.Errorf("%s: decoded %+v", tc.name, into)
		}
	}
}

func TestRead(t *testing.T) {
	var into form
	doc, mistakes := written.Read([]byte("name: a\nwait: &w 2d\nnames: [b, c]\nmore: &m\n  depth: 1\nless: {<<: *m}\ndepth: 3\n"), &into)
	if len(mistakes) > 0 || into.Name != "a" || into.Wait != 48*time.Hour || len(into.Names) != 2 || into.More.Depth != 1 || into.Less.Depth != 1 || into.Depth != 3 {
		t.Fatalf("%+v, %v", into, mistakes)
	}
	for _, tc := range []struct {
		path  []any
		line  int
		field string
	}{
		{nil, 1, ""}, {[]any{"more", "depth"}, 5, "more.depth"}, {[]any{"more", "length"}, 4, "more.length"}, {[]any{"names", 1}, 3, "names[1]"}, {[]any{"names", 2}, 3, "names[2]"},
		{[]any{"none"}, 1, "none"}, {[]any{"name", "x"}, 1, "name.x"}, {[]any{"none", "x"}, 1, "none.x"},
	} {
		if line, field := doc.Locate(tc.path...); line != tc.line || field != tc.field {
			t.Errorf("%v is at line %d as %s", tc.path, line, field)
		}
	}
	var merged form
	if _, mistakes := written.Read([]byte("more: &b {depth: 2}\nless: {<<: [*b, {}]}\n---\n"), &merged); len(mistakes) > 0 || merged.Less.Depth != 2 {
		t.Errorf("a list of merges: %+v, %v", merged, mistakes)
	}
	if doc.Empty() {
		t.Error("it is empty")
	}
	if _, mistakes := written.Read([]byte("name: a\n  b: c\n"), &into); len(mistakes) != 1 || mistakes[0].Line != 2 {
		t.Errorf("what is no YAML: %+v", mistakes)
	}
	if text := (written.Mistake{Text: "is long"}).String(); text != "is long" {
		t.Errorf("a mistake of no line reads %q", text)
	}
	if nothing, mistakes := written.Read(nil, &into); !nothing.Empty() || len(mistakes) > 0 {
		t.Errorf("an empty text: %v", mistakes)
	}
}

func TestDurations(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "7d": 7 * day, "1y": 365 * day, "100y": 36500 * day, "36500d": 36500 * day, "876000h": 36500 * day, "0s": 0} {
		if d, err := written.ParseDuration(text); err != nil || d != want {
			t.Errorf("%s is %s, %v", text, d, err)
		}
	}
	const notOne, tooLong = "is not a duration such as", "want a number of days or years, at most 100 years"
	for text, want := range map[string]string{"": notOne, "7": notOne, "d": notOne, "-1d": notOne, "1.5d": notOne, "101y": tooLong, "36501d": tooLong, "5000000000d": tooLong,
		"876001h": notOne, "-1s": notOne, "7 d": notOne, "a week": notOne, "yesterday": notOne} {
		if d, err := written.ParseDuration(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %s, %v; want: %s", text, d, err, want)
		}
	}
}
