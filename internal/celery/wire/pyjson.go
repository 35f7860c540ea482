package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// What Python writes as JSON is not always JSON. Everything here takes one pass
// over a document, whatever is in it.

// maxNesting bounds how deep a document may be (T31).
const maxNesting = 64

var (
	errNotJSON = errors.New("it is not JSON")
	errTooDeep = fmt.Errorf("it is more than %d levels deep", maxNesting)
)

// strict returns a document of Python's json module as JSON: NaN and the
// infinities, which have no form there, become null, and half of a surrogate
// pair, which is no character, becomes U+FFFD. Numbers keep their digits. A
// document without any of these is returned as it is.
func strict(raw []byte) ([]byte, error) {
	if !utf8.Valid(raw) {
		return nil, fmt.Errorf("%w: it is not UTF-8", errNotJSON)
	}
	var out []byte
	depth, done := 0, 0 // raw[:done] is in out, if there is one
	replace := func(from, to int, by string) {
		out = append(append(out, raw[done:from]...), by...)
		done = to
	}
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			end := endOfString(raw, i)
			if end < 0 {
				return nil, errNotJSON
			}
			for at := range surrogates(raw[i:end]) {
				replace(i+at, i+at+6, `\ufffd`)
			}
			i = end
		case '[', '{':
			if depth++; depth > maxNesting {
				return nil, errTooDeep
			}
		case ']', '}':
			depth--
		case 'N', 'I', '-':
			if n := noNumber(raw[i:]); n > 0 {
				replace(i, i+n, "null")
				i += n - 1
			}
		}
	}
	if done > 0 {
		out = append(out, raw[done:]...)
	} else {
		out = raw
	}
	if !json.Valid(out) {
		return nil, errNotJSON
	}
	return out, nil
}

// noNumber is the length of the NaN or infinity at the beginning of a text.
func noNumber(raw []byte) int {
	for _, word := range []string{"NaN", "Infinity", "-Infinity"} {
		if bytes.HasPrefix(raw, []byte(word)) {
			return len(word)
		}
	}
	return 0
}

// endOfString returns where the string that begins at i ends, or -1.
func endOfString(raw []byte, i int) int {
	for i++; i < len(raw); i++ {
		switch raw[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// surrogates yields where a string has escapes that are half of a pair.
func surrogates(text []byte) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := 0; ; i++ {
			next := bytes.IndexByte(text[i:], '\\')
			if next < 0 || i+next+1 >= len(text) {
				return
			}
			i += next
			unit := escaped(text[i:])
			switch {
			case unit < 0xd800 || unit > 0xdfff:
				i++ // whatever is escaped is no escape
			case unit < 0xdc00 && lowHalf(text[i+6:]):
				i += 11
			default:
				if !yield(i) {
					return
				}
				i += 5
			}
		}
	}
}

// escaped is the unit that \uXXXX at the beginning of a text stands for, or -1.
func escaped(text []byte) int {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return int(unit)
}

func lowHalf(text []byte) bool {
	unit := escaped(text)
	return unit >= 0xdc00 && unit <= 0xdfff
}

// parts yields the elements of a list, or the members of an object with their
// keys. The document is valid but for what strict replaces.
func parts(raw []byte) func(yield func(part []byte) bool) {
	return func(yield func([]byte) bool) {
		raw = bytes.TrimSpace(raw)
		if len(raw) < 2 {
			return
		}
		for raw = blanks(raw[1 : len(raw)-1]); len(raw) > 0; {
			n := endOfPart(raw)
			if !yield(bytes.TrimSpace(raw[:n])) || n == len(raw) {
				return
			}
			raw = blanks(raw[n+1:])
		}
	}
}

// blanks drops those in front alone: to look at the end each time would take long.
func blanks(raw []byte) []byte { return bytes.TrimLeft(raw, " \t\r\n") }

// endOfPart is where the first part of a list's inside ends: at its comma, or at
// the end.
func endOfPart(raw []byte) int {
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			if i = endOfString(raw, i); i < 0 {
				return len(raw)
			}
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return len(raw)
}

// member splits a member of an object.
func member(part []byte) (key string, value []byte) {
	if len(part) == 0 || part[0] != '"' {
		return "", nil
	}
	end := endOfString(part, 0)
	if end < 0 || json.Unmarshal(part[:end+1], &key) != nil {
		return "", nil
	}
	_, value, _ = bytes.Cut(part[end+1:], []byte(":"))
	return key, bytes.TrimSpace(value)
}

// plain returns a strict document in which the values that kombu writes as
// {"__type__": …, "__value__": …}, because JSON has no form for them, are in a
// plain form: a text, for bytes their base64.
func plain(raw json.RawMessage) json.RawMessage {
	if !bytes.Contains(raw, []byte(`"__type__"`)) {
		return raw
	}
	return appendPlain(make([]byte, 0, len(raw)), bytes.TrimSpace(raw))
}

func appendPlain(out, raw []byte) []byte {
	if len(raw) == 0 || raw[0] != '[' && raw[0] != '{' {
		return append(out, raw...)
	}
	if kind, value := typedValue(raw); kind != "" {
		if id := uuidText(kind, value); id != "" {
			return strconv.AppendQuote(out, id)
		}
		return appendPlain(out, value)
	}
	out = append(out, raw[0])
	first := true
	for part := range parts(raw) {
		if !first {
			out = append(out, ", "...)
		}
		first = false
		value := part
		if raw[0] == '{' {
			end := endOfString(part, 0)
			_, value, _ = bytes.Cut(part[end+1:], []byte(":"))
			out = append(append(out, part[:end+1]...), ": "...)
		}
		out = appendPlain(out, bytes.TrimSpace(value))
	}
	return append(out, raw[len(raw)-1])
}

// typedValue returns what a value of kombu's is; no kind if it is none.
func typedValue(raw []byte) (kind string, value []byte) {
	if inside := blanks(raw[1:]); !bytes.HasPrefix(inside, []byte(`"__type__"`)) && !bytes.HasPrefix(inside, []byte(`"__value__"`)) {
		return "", nil
	}
	n := 0
	for part := range parts(raw) {
		key, v := member(part)
		switch n++; {
		case n > 2:
			return "", nil
		case key == "__value__":
			value = v
		case key != "__type__" || json.Unmarshal(v, &kind) != nil:
			return "", nil
		}
	}
	if value == nil {
		return "", nil
	}
	return kind, value
}

// uuidText is the usual form of a typed UUID.
func uuidText(kind string, value []byte) string {
	var v struct{ Hex string }
	if kind != "uuid" || json.Unmarshal(value, &v) != nil {
		return ""
	}
	b, err := hex.DecodeString(v.Hex)
	if err != nil || len(b) != 16 {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// base64Text is how kombu puts a body into an envelope.
func base64Text(body []byte) string { return base64.StdEncoding.EncodeToString(body) }
