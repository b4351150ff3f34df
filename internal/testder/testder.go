// Package testder damages DER: of a document it makes every variant in which one node of its tree is wrong in one way. The
// test of a parser asks of each that it is refused, or says why it is not.
package testder

import (
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Names gives nodes names that tests can speak of. The key is the name of the node above and the type of the node, with its
// number if it is not the first of its type there: "CertID/INTEGER", "BasicOCSPResponse/SEQUENCE#2". Within the octets of an
// extension its identifier in hex stands for the node above: "551d14/INTEGER". Context tags are [0] and, if constructed, {0}. A
// node without an entry is named by its type. A name that ends in a type says what is behind an implicit tag:
// "onlyContainsUserCerts BOOLEAN". One that ends in "..." says that nothing is to be done within.
type Names map[string]string

// Damage is a document with one node that is wrong.
type Damage struct {
	Kind  string // what was done to it: "length one more"
	Where string // names of the node above and of the node: "CertID/INTEGER"
	DER   []byte
}

// String names it.
func (d Damage) String() string { return d.Where + ": " + d.Kind }

// Leniency are damages that a parser lives with, and the reason.
type Leniency struct {
	Kinds, Wheres string // of Damages, with commas between them; "*" is any
	Why           string
	used          bool
}

// Leniencies is everything that a parser lives with.
type Leniencies []*Leniency

// Allow reports whether a damage is among them.
func (l Leniencies) Allow(d Damage) bool {
	for _, one := range l {
		if holds(one.Kinds, d.Kind) && holds(one.Wheres, d.Where) {
			one.used = true
			return true
		}
	}
	return false
}

func holds(list, one string) bool {
	return list == "*" || slices.Contains(strings.Split(list, ", "), one)
}

// Unused returns those that no damage needed: reasons that have stopped being true.
func (l Leniencies) Unused() Leniencies {
	return slices.DeleteFunc(slices.Clone(l), func(one *Leniency) bool { return one.used })
}

// Document is the tree of a DER encoding.
type Document struct {
	root  *node
	names Names
}

// node is one element. Its content are its children if it has any way to have some, octets otherwise.
type node struct {
	parent   *node
	name     string
	tag      byte
	octets   []byte
	children []*node
	holds    bool // children are the content
}

// Parse reads what must be DER: it panics otherwise.
func Parse(der []byte, names Names) Document {
	d := Document{names: names}
	root, rest := d.parse(nil, "", der)
	if len(rest) > 0 {
		panic("testder: octets after the document")
	}
	d.root = root
	return d
}

func (d Document) parse(parent *node, within string, der []byte) (n *node, rest []byte) {
	tag, content, rest := split(der)
	n = &node{parent: parent, tag: tag}
	n.name = d.nameOf(n, within)
	within = n.name
	switch {
	case strings.HasSuffix(n.name, "..."):
		n.octets = content
		return n, rest
	case tag&0x20 != 0:
		n.holds = true
	case tag == 0x04 && parent != nil && parent.children != nil && parent.children[0].tag == 0x06:
		within, n.holds = hex.EncodeToString(parent.children[0].octets), true // an extension, or its like
	default:
		n.octets = content
	}
	for n.holds && len(content) > 0 {
		var child *node
		child, content = d.parse(n, within, content)
		n.children = append(n.children, child)
	}
	return n, rest
}

// nameOf looks a node up, behind those that its parent has already.
func (d Document) nameOf(n *node, within string) string {
	key, same := within+"/"+typeName(n.tag), 1
	if n.parent != nil {
		for _, before := range n.parent.children {
			if before.tag == n.tag {
				same++
			}
		}
	}
	if name, ok := d.names[fmt.Sprintf("%s#%d", key, same)]; ok {
		return name
	}
	if name, ok := d.names[key]; ok {
		return name
	}
	return typeName(n.tag)
}

func split(der []byte) (tag byte, content, rest []byte) {
	if len(der) < 2 || der[0]&0x1f == 0x1f {
		panic(fmt.Sprintf("testder: no element: %x", der))
	}
	n, length := 2, int(der[1])
	if length >= 0x80 {
		octets := length & 0x7f
		length = 0
		for _, b := range der[2 : 2+octets] {
			length = length<<8 | int(b)
		}
		n += octets
	}
	return der[0], der[n : n+length], der[n+length:]
}

var universal = map[byte]string{
	0x01: "BOOLEAN", 0x02: "INTEGER", 0x03: "BIT STRING", 0x04: "OCTET STRING", 0x05: "NULL", 0x06: "OBJECT IDENTIFIER", 0x0a: "ENUMERATED",
	0x0c: "UTF8String", 0x13: "PrintableString", 0x16: "IA5String", 0x17: "UTCTime", 0x18: "GeneralizedTime", 0x30: "SEQUENCE", 0x31: "SET",
}

func typeName(tag byte) string {
	if name, ok := universal[tag]; ok {
		return name
	}
	if tag&0x20 != 0 {
		return fmt.Sprintf("{%d}", tag&0x1f)
	}
	return fmt.Sprintf("[%d]", tag&0x1f)
}

// Element encodes one element.
func Element(tag byte, content []byte) []byte {
	return append(append([]byte{tag}, lengthOf(len(content))...), content...)
}

func lengthOf(n int) []byte {
	switch {
	case n < 0x80:
		return []byte{byte(n)}
	case n < 0x100:
		return []byte{0x81, byte(n)}
	case n < 0x10000:
		return []byte{0x82, byte(n >> 8), byte(n)}
	}
	return []byte{0x83, byte(n >> 16), byte(n >> 8), byte(n)}
}

// content encodes what is in a node, with other octets for some of those below.
func (n *node) content(instead map[*node][]byte) []byte {
	if !n.holds {
		return n.octets
	}
	var all []byte
	for _, child := range n.children {
		all = append(all, child.encode(instead)...)
	}
	return all
}

func (n *node) encode(instead map[*node][]byte) []byte {
	if octets, ok := instead[n]; ok {
		return octets
	}
	return Element(n.tag, n.content(instead))
}

// walk yields every node, those above before those below.
func (n *node) walk(yield func(*node) bool) bool {
	if !yield(n) {
		return false
	}
	for _, child := range n.children {
		if !child.walk(yield) {
			return false
		}
	}
	return true
}

// find returns the first node of a name.
func (d Document) find(name string) (found *node) {
	d.root.walk(func(n *node) bool {
		if n.name == name {
			found = n
		}
		return found == nil
	})
	if found == nil {
		panic("testder: no node " + name)
	}
	return found
}

// Find returns the encoding of the first node of a name. Like the functions below it panics if there is none.
func (d Document) Find(name string) []byte { return d.find(name).encode(nil) }

// Replace returns the document with other octets for the first node of a name.
func (d Document) Replace(name string, octets []byte) []byte {
	return d.root.encode(map[*node][]byte{d.find(name): octets})
}

// Prepend returns the document with octets in front of what is in the first node of a name.
func (d Document) Prepend(name string, octets []byte) []byte {
	n := d.find(name)
	return d.Replace(name, Element(n.tag, append(slices.Clone(octets), n.content(nil)...)))
}

// Damages yields every damage to every node. Lengths of the nodes above are right in all of them.
func (d Document) Damages() iter.Seq[Damage] {
	return func(yield func(Damage) bool) {
		d.root.walk(func(n *node) bool {
			for kind, instead := range n.damages {
				if !yield(Damage{kind, n.where(), d.root.encode(instead)}) {
					return false
				}
			}
			return true
		})
	}
}

func (n *node) where() string {
	if n.parent == nil {
		return n.name
	}
	return n.parent.name + "/" + n.name
}

// damages yields what becomes of one node.
func (n *node) damages(yield func(kind string, instead map[*node][]byte) bool) {
	content := n.content(nil)
	whole := Element(n.tag, content)
	header := func(tag byte, length ...byte) []byte { return append(append([]byte{tag}, length...), content...) }
	octets := [][2]any{
		{"another tag", Element(n.tag^0x01, content)},
		{"another class", Element(n.tag^0x40, content)},
		{"universal or context tag", Element(n.tag^0x80, content)},
		{"constructed or not", Element(n.tag^0x20, content)},
		{"tag in the long form", append(append([]byte{n.tag | 0x1f, n.tag & 0x1f}, lengthOf(len(content))...), content...)},
		{"length one more", header(n.tag, lengthOf(len(content)+1)...)},
		{"length longer than needed", header(n.tag, longer(lengthOf(len(content)))...)},
		{"indefinite length", append(header(n.tag, 0x80), 0, 0)},
		{"removed", []byte{}},
		{"twice", append(slices.Clone(whole), whole...)},
	}
	if len(content) > 0 {
		octets = append(octets, [2]any{"length one less", header(n.tag, lengthOf(len(content)-1)...)})
	}
	if n.holds {
		octets = append(octets, [2]any{"emptied", Element(n.tag, nil)},
			[2]any{"an element at the end", Element(n.tag, append(slices.Clone(content), 5, 0))},
			[2]any{"an octet at the end", Element(n.tag, append(slices.Clone(content), 0))})
	}
	for kind, other := range n.contents() {
		octets = append(octets, [2]any{kind, Element(n.tag, other)})
	}
	octets = append(octets, n.otherTime()...)
	for _, o := range octets {
		if !yield(o[0].(string), map[*node][]byte{n: o[1].([]byte)}) {
			return
		}
	}
	if next := n.next(); next != nil && !slices.Equal(whole, next.encode(nil)) {
		yield("after the next", map[*node][]byte{n: next.encode(nil), next: whole})
	}
}

// longer writes a length with one octet more than it needs.
func longer(length []byte) []byte {
	if length[0] < 0x80 {
		return append([]byte{0x81}, length...)
	}
	return append([]byte{length[0] + 1, 0}, length[1:]...)
}

func (n *node) next() *node {
	if n.parent == nil {
		return nil
	}
	siblings := n.parent.children
	if i := slices.Index(siblings, n); i+1 < len(siblings) {
		return siblings[i+1]
	}
	return nil
}

// contents yields wrong contents of the type of the node.
func (n *node) contents() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for kind, content := range n.wrong() {
			if !slices.Equal(content, n.octets) || n.holds {
				if !yield(kind, content) {
					return
				}
			}
		}
	}
}

func (n *node) wrong() map[string][]byte {
	with := func(b ...byte) []byte { return append(b, n.octets...) }
	is := func(name string) bool { return strings.HasSuffix(n.name, name) }
	switch {
	case n.holds && len(n.children) == 2 && n.children[0].tag == 0x06 && n.children[1].tag == 0x04: // Extension
		return map[string][]byte{"false written out": slices.Concat(n.children[0].encode(nil), []byte{1, 1, 0}, n.children[1].encode(nil))}
	case n.holds:
		return nil
	case is("BOOLEAN"):
		return map[string][]byte{"true as one": {1}, "empty": {}, "two octets": {0xff, 0xff}, "false written out": {0}}
	case is("INTEGER"), is("ENUMERATED"):
		return map[string][]byte{"zero in front": with(0), "minus one": {0xff}, "empty": {}, "minus one at length": {0xff, 0xff}}
	case is("NULL"):
		return map[string][]byte{"content": {0}}
	case is("OBJECT IDENTIFIER"):
		cut := with()
		cut[len(cut)-1] |= 0x80
		return map[string][]byte{"empty": {}, "last arc does not end": cut, "arc longer than needed": slices.Insert(with(), 1, 0x80)}
	case is("BIT STRING"):
		return map[string][]byte{"no octet": {}, "unused bits of nothing": {1}, "eight unused bits": append([]byte{8}, n.octets[1:]...),
			"unused bits that are set": {7, 0xff}, "one unused bit that is set": {1, 0xff}}
	case is("UTCTime"), is("GeneralizedTime"):
		return wrongTimes(string(n.octets))
	}
	return nil
}

func wrongTimes(text string) map[string][]byte {
	stem, seconds, year := strings.TrimSuffix(text, "Z"), len(text)-3, len(text)-11
	wrong := map[string][]byte{}
	for kind, other := range map[string]string{
		"fraction": stem + ".5Z", "fraction of zero": stem + ".0Z", "empty fraction": stem + ".Z", "comma": stem + ",5Z",
		"offset": stem + "+0100", "offset of zero": stem + "+0000", "offset behind": stem + "-0830", "local time": stem, "small z": stem + "z",
		"no seconds": text[:seconds] + "Z", "no minutes": text[:seconds-2] + "Z", "space": " " + text[1:], "empty": "",
		"month 13": text[:year] + "13" + text[year+2:], "month 0": text[:year] + "00" + text[year+2:], "day 32": text[:year+2] + "32" + text[year+4:], "day 0": text[:year+2] + "00" + text[year+4:],
		"hour 24": text[:year+4] + "24" + text[year+6:], "minute 60": text[:year+6] + "60" + text[year+8:], "second 60": text[:seconds] + "60Z",
	} {
		wrong[kind] = []byte(other)
	}
	return wrong
}

// otherTime writes the same time in the other of the two types.
func (n *node) otherTime() [][2]any {
	switch n.tag {
	case 0x17:
		return [][2]any{{"as GeneralizedTime", Element(0x18, append([]byte("20"), n.octets...))}}
	case 0x18:
		return [][2]any{{"as UTCTime", Element(0x17, n.octets[2:])}}
	}
	return nil
}
