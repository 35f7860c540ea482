package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxRepr is where Celery cuts what it prints, in characters.
const maxRepr = 1024

// Repr is a value as Python prints it, cut as Celery cuts it. It is for people.
func Repr(v any) string {
	var raw bytes.Buffer
	encoder := json.NewEncoder(&raw)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return reprOf(raw.Bytes())
}

// reprOf is a document of Python's json module as Python prints what it stands
// for.
func reprOf(raw []byte) string {
	var r repr
	r.value(bytes.TrimSpace(raw))
	return r.text()
}

// reprOfArgs prints a list as the tuple that Python has instead.
func reprOfArgs(raw []byte) string {
	var r repr
	raw = bytes.TrimSpace(raw)
	n := 0
	r.write("(")
	for part := range parts(raw) {
		if n++; n > 1 {
			r.write(", ")
		}
		if r.value(part); r.full() {
			break
		}
	}
	if n == 1 {
		r.write(",")
	}
	r.write(")")
	return r.text()
}

// repr collects a text up to the length at which it is cut.
type repr struct {
	b     strings.Builder
	runes int
}

func (r *repr) full() bool { return r.runes > maxRepr }

func (r *repr) write(text string) {
	if !r.full() {
		r.b.WriteString(text)
		r.runes += utf8.RuneCountInString(text)
	}
}

func (r *repr) text() string {
	text := r.b.String()
	if r.full() {
		return string([]rune(text)[:maxRepr-3]) + "..."
	}
	return text
}

func (r *repr) value(raw []byte) {
	if len(raw) == 0 || r.full() {
		return
	}
	switch raw[0] {
	case '[', '{':
		r.container(raw)
	case '"':
		r.quoted(raw)
	default:
		r.write(scalar(string(raw)))
	}
}

func (r *repr) container(raw []byte) {
	r.write(string(raw[:1]))
	first := true
	for part := range parts(raw) {
		if !first {
			r.write(", ")
		}
		first = false
		value := part
		if raw[0] == '{' {
			end := endOfString(part, 0)
			r.quoted(part[:end+1])
			r.write(": ")
			_, value, _ = bytes.Cut(part[end+1:], []byte(":"))
		}
		if r.value(bytes.TrimSpace(value)); r.full() {
			return
		}
	}
	r.write(string(raw[len(raw)-1:]))
}

// quoted prints a string: in single quotes, unless it has some and no double
// ones.
func (r *repr) quoted(raw []byte) {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return
	}
	quote := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	r.write(string(quote))
	for _, c := range s {
		if r.full() {
			return
		}
		r.write(character(c, quote))
	}
	r.write(string(quote))
}

func character(c, quote rune) string {
	switch {
	case c == '\\', c == quote:
		return `\` + string(c)
	case c == '\n':
		return `\n`
	case c == '\r':
		return `\r`
	case c == '\t':
		return `\t`
	case strconv.IsPrint(c):
		return string(c)
	case c <= 0xff:
		return fmt.Sprintf(`\x%02x`, c)
	case c <= 0xffff:
		return fmt.Sprintf(`\u%04x`, c)
	}
	return fmt.Sprintf(`\U%08x`, c)
}

// scalar prints a number or a word.
func scalar(text string) string {
	switch text {
	case "null":
		return "None"
	case "true":
		return "True"
	case "false":
		return "False"
	case "NaN":
		return "nan"
	case "Infinity":
		return "inf"
	case "-Infinity":
		return "-inf"
	}
	if !strings.ContainsAny(text, ".eE") {
		return text // a whole number has all its digits
	}
	f, _ := strconv.ParseFloat(text, 64) // out of range: infinite
	switch size := math.Abs(f); {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case size != 0 && (size < 1e-4 || size >= 1e16):
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	text = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}
