package crl

import (
	"errors"
	"fmt"
	"time"
)

// Tags of the elements that the inner loop reads by hand.
const (
	tagInteger         = 0x02
	tagEnumerated      = 0x0a
	tagUTCTime         = 0x17
	tagGeneralizedTime = 0x18
	tagSequence        = 0x30
	tagSet             = 0x31
)

var (
	errTruncated = errors.New("truncated")
	errLength    = errors.New("length is not in DER")
	errTrailing  = errors.New("trailing octets")
	errTime      = errors.New("time is not YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ")
)

// headerMax is the longest header that is accepted: a tag, and a length of up to four octets.
const headerMax = 6

// header reads tag and length of the element at the start of b. n is the size of the header itself. Tags above 30,
// indefinite lengths and lengths longer than needed are refused (X.690, Section 10.1).
func header(b []byte) (tag byte, n int, length int64, err error) {
	if len(b) < 2 {
		return 0, 0, 0, errTruncated
	}
	tag = b[0]
	if tag&0x1f == 0x1f {
		return 0, 0, 0, fmt.Errorf("tag %#x is too long", tag)
	}
	if b[1] < 0x80 {
		return tag, 2, int64(b[1]), nil
	}
	octets := int(b[1] & 0x7f)
	if octets == 0 || octets > 4 {
		return 0, 0, 0, errLength
	}
	if len(b) < 2+octets {
		return 0, 0, 0, errTruncated
	}
	for _, c := range b[2 : 2+octets] {
		length = length<<8 | int64(c)
	}
	if b[2] == 0 || length < 0x80 {
		return 0, 0, 0, errLength
	}
	return tag, 2 + octets, length, nil
}

// element splits off the element at the start of b: its tag, its content and what follows it.
func element(b []byte) (tag byte, content, rest []byte, err error) {
	if len(b) >= 2 && b[1] < 0x80 && b[0]&0x1f != 0x1f { // nearly all of them
		if end := 2 + int(b[1]); end <= len(b) {
			return b[0], b[2:end], b[end:], nil
		}
	}
	tag, n, length, err := header(b)
	if err != nil {
		return 0, nil, nil, err
	}
	if length > int64(len(b)-n) {
		return 0, nil, nil, errTruncated
	}
	end := n + int(length)
	return tag, b[n:end], b[end:], nil
}

// expect is element for a known tag.
func expect(b []byte, want byte) (content, rest []byte, err error) {
	tag, content, rest, err := element(b)
	if err == nil && tag != want {
		err = fmt.Errorf("tag %#02x where %#02x should be", tag, want)
	}
	return content, rest, err
}

// checkInteger refuses an INTEGER that is empty or longer than needed (X.690, Section 8.3.2).
func checkInteger(content []byte) error {
	if len(content) == 0 {
		return errors.New("integer is empty")
	}
	if len(content) > 1 && (content[0] == 0 && content[1] < 0x80 || content[0] == 0xff && content[1] >= 0x80) {
		return errors.New("integer is longer than needed")
	}
	return nil
}

// expectOID is expect for an object identifier: at least one arc, each minimally encoded and the last one complete
// (X.690, Section 8.19).
func expectOID(b []byte) (content, rest []byte, err error) {
	if content, rest, err = expect(b, 0x06); err != nil {
		return nil, nil, err
	}
	begins, ok := true, len(content) > 0
	for _, octet := range content {
		ok = ok && !(begins && octet == 0x80)
		begins = octet < 0x80
	}
	if !ok || !begins {
		return nil, nil, errors.New("object identifier is not in DER")
	}
	return content, rest, nil
}

// appendHeader writes tag and length.
func appendHeader(b []byte, tag byte, length int) []byte {
	b = append(b, tag)
	switch {
	case length < 0x80:
		return append(b, byte(length))
	case length < 1<<8:
		return append(b, 0x81, byte(length))
	case length < 1<<16:
		return append(b, 0x82, byte(length>>8), byte(length))
	case length < 1<<24:
		return append(b, 0x83, byte(length>>16), byte(length>>8), byte(length))
	default:
		return append(b, 0x84, byte(length>>24), byte(length>>16), byte(length>>8), byte(length))
	}
}

// wrap encloses content in one element.
func wrap(tag byte, content ...[]byte) []byte {
	length := 0
	for _, c := range content {
		length += len(c)
	}
	b := appendHeader(make([]byte, 0, headerMax+length), tag, length)
	for _, c := range content {
		b = append(b, c...)
	}
	return b
}

// parseTime reads a UTCTime or GeneralizedTime in the form of RFC 5280, Section 4.1.2.5: in UTC, with seconds and
// without fractions. It returns Unix seconds. time.Parse would take ten times as long, a million times over.
func parseTime(tag byte, b []byte) (int64, error) {
	var year int
	switch {
	case tag == tagUTCTime && len(b) == 13:
		yy, ok := digits2(b)
		if !ok {
			return 0, errTime
		}
		year = 1900 + yy
		if yy < 50 {
			year += 100
		}
		b = b[2:]
	case tag == tagGeneralizedTime && len(b) == 15:
		century, ok1 := digits2(b)
		yy, ok2 := digits2(b[2:])
		if !ok1 || !ok2 {
			return 0, errTime
		}
		year = 100*century + yy
		b = b[4:]
	default:
		return 0, errTime
	}
	month, ok1 := digits2(b)
	day, ok2 := digits2(b[2:])
	hour, ok3 := digits2(b[4:])
	minute, ok4 := digits2(b[6:])
	second, ok5 := digits2(b[8:])
	if !(ok1 && ok2 && ok3 && ok4 && ok5) || b[10] != 'Z' {
		return 0, errTime
	}
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		return 0, errTime
	}
	return daysSince1970(year, month, day)*86400 + int64(hour*3600+minute*60+second), nil
}

func digits2(b []byte) (n int, ok bool) {
	hi, lo := b[0]-'0', b[1]-'0'
	return int(hi)*10 + int(lo), hi <= 9 && lo <= 9
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysSince1970 counts days of the Gregorian calendar, with years that begin in March so that the leap day is last.
func daysSince1970(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	days := 365*year + floorDiv(year, 4) - floorDiv(year, 100) + floorDiv(year, 400) + (153*(month-3)+2)/5 + day - 1
	return int64(days - 719468)
}

// floorDiv rounds towards minus infinity: January of the year 0 belongs to year -1 above.
func floorDiv(a, b int) int {
	if a < 0 {
		return (a - b + 1) / b
	}
	return a / b
}

// appendTime writes t as RFC 5280, Section 5.1.2.4 requires: UTCTime until 2049, GeneralizedTime after.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	if year := t.Year(); year >= 1950 && year < 2050 {
		return t.AppendFormat(append(b, tagUTCTime, 13), "060102150405Z")
	}
	return appendGeneralizedTime(b, t)
}

// appendGeneralizedTime writes a GeneralizedTime. Times outside the years 0 to 9999, which the type cannot hold, become
// the ends of that interval.
func appendGeneralizedTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	if t.Year() > 9999 {
		t = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	} else if t.Year() < 0 {
		t = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return t.AppendFormat(append(b, tagGeneralizedTime, 15), "20060102150405Z")
}
