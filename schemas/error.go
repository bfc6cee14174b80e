package schemas

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Detail is one thing that is wrong with a payload.
type Detail struct {
	// Pointer is the JSON Pointer (RFC 6901) of the offending value; "" is the whole payload. A member
	// that is missing is named where it should be.
	Pointer string `json:"pointer"`
	Message string `json:"message"`
}

// String is the detail in a line. Names from the payload can't break the line: control characters
// are escaped, and an endless pointer is cut in its middle.
func (d Detail) String() string {
	if d.Pointer == "" {
		return d.Message
	}
	return printable(shorten(d.Pointer, 200)) + ": " + d.Message
}

// Code tells which gate refused a payload. It is the first part of what a dead letter says.
type Code string

const (
	CodeJSON     Code = "json"      // no JSON, or JSON that readers disagree about
	CodeSchema   Code = "schema"    // JSON that breaks the rules of its channel or its Thing
	CodeTooLarge Code = "too_large" // more bytes or deeper than allowed
)

// Error is why a payload was refused. Sending the same payload again will not help.
type Error struct {
	Code Code
	// Details has at least one entry, sorted by pointer.
	Details []Detail
	// Offset is the byte at which reading stopped; it is set for the codes json and too_large.
	Offset int
	// Overrun is set when the check, or finding out what is wrong, was given up, because it took more steps
	// than are allowed: it is the schema that should be looked at.
	Overrun bool
}

// A refusal lists so much and says how many more there are: what is wrong with a payload may be
// longer than the payload.
const (
	maxDetails     = 50
	maxDetailBytes = 32 << 10
	maxLineDetails = 5
)

// Error is one line with the first few details.
func (e *Error) Error() string {
	var b strings.Builder
	for i, d := range e.Details {
		if i == maxLineDetails {
			fmt.Fprintf(&b, "; and %d more", len(e.Details)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(d.String())
	}
	return b.String()
}

// Under puts the part of a payload that was checked back into its place: every pointer of an
// *Error gets the prefix, PartReported for instance. Other errors, nil too, come back as they are.
func Under(prefix string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	moved := &Error{Code: e.Code, Offset: e.Offset, Overrun: e.Overrun}
	for _, d := range e.Details {
		moved.Details = append(moved.Details, Detail{prefix + d.Pointer, d.Message})
	}
	return moved
}

// refuse makes an error of code schema, nil if there is nothing wrong.
func refuse(details []Detail) error {
	if len(details) == 0 {
		return nil
	}
	return &Error{Code: CodeSchema, Details: details}
}

// limited cuts details to what a refusal lists, and adds how many more there are.
func limited(details []Detail, more int) []Detail {
	bytes := 0
	for i, d := range details {
		bytes += len(d.Pointer) + len(d.Message)
		if i == maxDetails || i > 0 && bytes > maxDetailBytes {
			more += len(details) - i
			details = details[:i:i]
			break
		}
	}
	if more > 0 {
		details = append(details, Detail{Message: fmt.Sprintf("and %d more problems", more)})
	}
	return details
}

// pointer spells a path as a JSON Pointer.
func pointer(path ...string) string {
	var b strings.Builder
	for _, token := range path {
		b.WriteByte('/')
		b.WriteString(pointerEscaper.Replace(token))
	}
	return b.String()
}

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")

// printable escapes what would break a line or a header.
func printable(s string) string {
	if !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// shorten cuts the middle out of what is longer than limit bytes, between characters.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	head, tail := limit*2/3, len(s)-limit/3
	return strings.ToValidUTF8(s[:head], "") + "..." + strings.ToValidUTF8(s[tail:], "")
}
