package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What Python writes as JSON is not always JSON.

// maxNesting bounds how deep a document may be (T31).
const maxNesting = 64

var (
	errNotJSON = errors.New("it is not JSON")
	errTooDeep = fmt.Errorf("it is more than %d levels deep", maxNesting)
)

// strict returns a document of Python's json module as JSON: NaN and the
// infinities, which have no form there, become null. Numbers keep their digits.
func strict(raw []byte) ([]byte, error) {
	if !utf8.Valid(raw) {
		return nil, fmt.Errorf("%w: it is not UTF-8", errNotJSON)
	}
	out := raw
	depth, copied := 0, false
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			if i = endOfString(raw, i); i < 0 {
				return nil, errNotJSON
			}
		case '[', '{':
			if depth++; depth > maxNesting {
				return nil, errTooDeep
			}
		case ']', '}':
			depth--
		case 'N', 'I':
			n := wordAt(raw, i)
			if n == 0 {
				continue
			}
			if !copied {
				out, copied = bytes.Clone(raw), true
			}
			begin := i
			if begin > 0 && raw[begin-1] == '-' {
				begin--
			}
			// null is shorter than any of them: blanks fill the rest.
			copy(out[begin:i+n], append([]byte("null"), bytes.Repeat([]byte(" "), n)...))
			i += n - 1
		}
	}
	if !json.Valid(out) {
		return nil, errNotJSON
	}
	return out, nil
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

// wordAt returns the length of NaN or Infinity at i.
func wordAt(raw []byte, i int) int {
	for _, word := range []string{"NaN", "Infinity"} {
		if bytes.HasPrefix(raw[i:], []byte(word)) {
			return len(word)
		}
	}
	return 0
}

// typed is how kombu writes a value that JSON has no form for.
type typed struct {
	Type  *string         `json:"__type__"`
	Value json.RawMessage `json:"__value__"`
}

// plain returns a strict document with such values in a plain form: a text, for
// bytes their base64.
func plain(raw json.RawMessage) json.RawMessage {
	if !bytes.Contains(raw, []byte(`"__type__"`)) {
		return raw
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var tree any
	if d.Decode(&tree) != nil {
		return raw
	}
	text, err := json.Marshal(unwrap(tree))
	if err != nil {
		return raw
	}
	return text
}

func unwrap(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = unwrap(v[i])
		}
	case map[string]any:
		if kind, ok := v["__type__"].(string); ok && len(v) == 2 {
			if value, has := v["__value__"]; has {
				return plainValue(kind, value)
			}
		}
		for k := range v {
			v[k] = unwrap(v[k])
		}
	}
	return v
}

func plainValue(kind string, value any) any {
	if m, ok := value.(map[string]any); ok && kind == "uuid" {
		digits, _ := m["hex"].(string)
		if b, err := hex.DecodeString(digits); err == nil && len(b) == 16 {
			return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
		}
	}
	return value
}

// Repr is a value as Python prints it, at most 1024 characters, as Celery cuts
// it.
func Repr(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return reprOf(raw)
}

const maxRepr = 1024

func reprOf(raw []byte) string {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var tree any
	if d.Decode(&tree) != nil {
		return string(raw)
	}
	var b strings.Builder
	appendRepr(&b, tree)
	text := b.String()
	if utf8.RuneCountInString(text) > maxRepr {
		return string([]rune(text)[:maxRepr-3]) + "..."
	}
	return text
}

func appendRepr(b *strings.Builder, v any) {
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		b.WriteString(map[bool]string{true: "True", false: "False"}[v])
	case string:
		b.WriteString(reprText(v))
	case json.Number:
		b.WriteString(v.String())
	case []any:
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			appendRepr(b, item)
		}
		b.WriteByte(']')
	case map[string]any:
		b.WriteByte('{')
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for i, k := range keys {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(reprText(k) + ": ")
			appendRepr(b, v[k])
		}
		b.WriteByte('}')
	}
}

// reprText quotes as Python does: single quotes unless the text has some and no
// double ones.
func reprText(s string) string {
	quote := "'"
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = `"`
	}
	var b strings.Builder
	b.WriteString(quote)
	for _, r := range s {
		switch {
		case r == '\\', string(r) == quote:
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r > 0x7f && !strconv.IsPrint(r) && r <= 0xff:
			fmt.Fprintf(&b, `\x%02x`, r)
		case !strconv.IsPrint(r) && r > 0xff && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteString(quote)
	return b.String()
}

// base64Text is how kombu puts a body into an envelope.
func base64Text(body []byte) string { return base64.StdEncoding.EncodeToString(body) }
