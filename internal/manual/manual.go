// Package manual writes the manual pages of a program, when packages are made: what turns Markdown into roff has no place on
// a gateway.
package manual

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Section is one that cobra knows nothing of. Its lines are a word and what it means.
type Section struct {
	Title string
	Lines [][2]string
	For   func(*cobra.Command) bool // nil: on each page
}

// Write makes a page of each command in dir, with the sections that are for it before SEE ALSO.
func Write(root *cobra.Command, dir string, sections ...Section) error {
	root.DisableAutoGenTag = true
	if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "fleetbridge", Manual: "fleetbridge manual"}, dir); err != nil {
		return err
	}
	return each(root, func(c *cobra.Command) error {
		file := filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1")
		page, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return os.WriteFile(file, add(page, c, sections), 0o644)
	})
}

// each calls f for a command and for what is below it that has a page.
func each(c *cobra.Command, f func(*cobra.Command) error) error {
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			continue
		}
		if err := each(sub, f); err != nil {
			return err
		}
	}
	return f(c)
}

func add(page []byte, c *cobra.Command, sections []Section) []byte {
	var more bytes.Buffer
	for _, s := range sections {
		if s.For != nil && !s.For(c) {
			continue
		}
		more.WriteString(".SH " + s.Title + "\n")
		for _, l := range s.Lines {
			more.WriteString(".TP\n\\fB" + roff(l[0]) + "\\fP\n" + roff(l[1]) + "\n")
		}
		more.WriteString("\n\n")
	}
	page = bytes.Replace(page, []byte(".SH EXAMPLE\n"), []byte(".SH EXAMPLES\n"), 1)
	before, after, _ := bytes.Cut(page, []byte(".SH SEE ALSO"))
	out := append(bytes.TrimRight(before, "\n"), "\n\n\n"...)
	out = append(out, more.Bytes()...)
	if len(after) > 0 {
		out = append(append(out, ".SH SEE ALSO"...), after...)
	}
	return out
}

// roff keeps text as it is.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
