package crl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Name is the DER of one GeneralName (RFC 5280, Section 4.2.1.6). Names are compared as octets, except directory names,
// which are compared by the rules of Section 7.1.
type Name []byte

const (
	tagNameURI       = 0x86 // [6] IMPLICIT IA5String
	tagNameDirectory = 0xa4 // [4] EXPLICIT Name
)

// generalNameTags are the tags of the nine kinds of names, by number.
var generalNameTags = [...]byte{0xa0, 0x81, 0x82, 0xa3, tagNameDirectory, 0xa5, tagNameURI, 0x87, 0x88}

// URIName makes the GeneralName of a URI.
func URIName(uri string) Name { return wrap(tagNameURI, []byte(uri)) }

// DirectoryName makes the GeneralName of a distinguished name in DER.
func DirectoryName(name []byte) Name { return wrap(tagNameDirectory, name) }

// URI returns the text of a uniformResourceIdentifier; ok is false for other kinds of names.
func (n Name) URI() (text string, ok bool) {
	content, rest, err := expect(n, tagNameURI)
	return string(content), err == nil && len(rest) == 0
}

// Directory returns the distinguished name in a directoryName, nil for other kinds of names.
func (n Name) Directory() []byte {
	content, rest, err := expect(n, tagNameDirectory)
	if err != nil || len(rest) > 0 {
		return nil
	}
	return content
}

// canonical returns the same octets for every spelling of a name. Directory names begin with an octet that begins no
// other name.
func (n Name) canonical() string {
	if len(n) > 0 && n[0] == tagNameDirectory {
		if name, ok := CanonicalName(n.Directory()); ok {
			return "\x00" + name
		}
	}
	return string(n)
}

// canonicalNames returns the canonical forms of names as a set, so that a name is found without comparing all.
func canonicalNames(names []Name) map[string]bool {
	canonical := make(map[string]bool, len(names))
	for _, n := range names {
		canonical[n.canonical()] = true
	}
	return canonical
}

// parseNames reads the content of a GeneralNames.
func parseNames(b []byte) ([]Name, error) {
	if len(b) == 0 {
		return nil, errors.New("no name")
	}
	var names []Name
	for len(b) > 0 {
		tag, content, rest, err := element(b)
		if err != nil {
			return nil, err
		}
		if tag&0x1f > 8 || tag != generalNameTags[tag&0x1f] {
			return nil, errors.New("not a general name")
		}
		if tag == tagNameDirectory {
			if _, ok := CanonicalName(content); !ok {
				return nil, errors.New("not a directory name")
			}
		}
		names = append(names, Name(bytes.Clone(b[:len(b)-len(rest)])))
		b = rest
	}
	return names, nil
}

// SameName compares two distinguished names in DER. Equal octets are equal names. Otherwise values of the usual string
// types are compared without regard to type, case and amount of white space (RFC 5280, Section 7.1).
func SameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	canonicalA, okA := CanonicalName(a)
	canonicalB, okB := CanonicalName(b)
	return okA && okB && canonicalA == canonicalB
}

// CanonicalName maps every spelling of a distinguished name in DER to the same octets, which are a prefix of those of
// every name below it (RFC 5280, Sections 4.2.1.10 and 7.1). ok is false if der is not a name.
func CanonicalName(der []byte) (canonical string, ok bool) {
	rdns, rest, err := expect(der, tagSequence)
	if err != nil || len(rest) > 0 {
		return "", false
	}
	var out []byte
	for len(rdns) > 0 {
		var set []byte
		if set, rdns, err = expect(rdns, tagSet); err != nil {
			return "", false
		}
		attributes, err := canonicalSet(set)
		if err != nil {
			return "", false
		}
		// The order of a SET OF follows from the octets, so it can change with the spelling.
		slices.Sort(attributes)
		out = appendCounted(out, strings.Join(attributes, ""))
	}
	return string(out), true
}

func canonicalSet(set []byte) (attributes []string, err error) {
	if len(set) == 0 {
		return nil, errors.New("relative name is empty")
	}
	for len(set) > 0 {
		var attribute []byte
		if attribute, set, err = expect(set, tagSequence); err != nil {
			return nil, err
		}
		oid, value, err := expectOID(attribute)
		if err != nil {
			return nil, err
		}
		tag, content, rest, err := element(value)
		if err != nil {
			return nil, err
		}
		if len(rest) > 0 {
			return nil, errTrailing
		}
		text := string(value)
		if plain, ok := directoryString(tag, content); ok {
			text = "=" + prepare(plain)
		}
		attributes = append(attributes, string(appendCounted(appendCounted(nil, string(oid)), text)))
	}
	return attributes, nil
}

func appendCounted(b []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(text))), text...)
}

// directoryString decodes the string types that names are written in.
func directoryString(tag byte, content []byte) (string, bool) {
	switch tag {
	case 0x0c: // UTF8String
		return string(content), utf8.Valid(content)
	case 0x13, 0x16: // PrintableString, IA5String
		for _, c := range content {
			if c >= 0x80 {
				return "", false
			}
		}
		return string(content), true
	case 0x1e: // BMPString
		if len(content)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(content)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(content[2*i:])
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}

// prepare folds case and white space (RFC 4518, Section 2, without the composition of characters).
func prepare(text string) string {
	return strings.Join(strings.Fields(strings.ToLower(strings.ToUpper(text))), " ")
}

// relativeName appends one relative distinguished name, given as the content of its SET, to a name.
func relativeName(base, set []byte) (Name, bool) {
	rdns, rest, err := expect(base, tagSequence)
	if err != nil || len(rest) > 0 {
		return nil, false
	}
	return DirectoryName(wrap(tagSequence, rdns, wrap(tagSet, set))), true
}
