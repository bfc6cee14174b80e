package conform

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// print writes a line, and the reason under it.
func (r Result) print(w io.Writer) {
	word, reason := "pass", ""
	switch {
	case r.Failure != "":
		word, reason = "FAIL", r.Failure
	case r.Skipped != "":
		word, reason = "skip", r.Skipped
	}
	fmt.Fprintf(w, "%s  %-14s %5.1f s  %s\n", word, r.Check, r.Took.Seconds(), r.Must)
	for line := range strings.Lines(reason) {
		fmt.Fprintf(w, "      %s\n", strings.TrimRight(line, "\n"))
	}
}

// The shape of JUnit's XML that CI systems read.
type suiteXML struct {
	XMLName  xml.Name  `xml:"testsuite"`
	Name     string    `xml:"name,attr"`
	Tests    int       `xml:"tests,attr"`
	Failures int       `xml:"failures,attr"`
	Skipped  int       `xml:"skipped,attr"`
	Time     string    `xml:"time,attr"`
	Cases    []caseXML `xml:"testcase"`
	Output   string    `xml:"system-out,omitempty"`
}

type caseXML struct {
	Name    string     `xml:"name,attr"`
	Class   string     `xml:"classname,attr"`
	Time    string     `xml:"time,attr"`
	Failure *reasonXML `xml:"failure"`
	Skipped *reasonXML `xml:"skipped"`
}

type reasonXML struct {
	Message string `xml:"message,attr"`
}

// WriteJUnit writes the report as CI systems read it.
func (r Report) WriteJUnit(w io.Writer) error {
	suite := suiteXML{Name: "fleetsim conform " + r.Name, Tests: len(r.Results), Failures: r.Failed(), Skipped: r.Skipped(), Output: r.Output}
	total := 0.0
	for _, c := range r.Results {
		out := caseXML{Name: c.Check + ": " + c.Must, Class: "conform", Time: fmt.Sprintf("%.3f", c.Took.Seconds())}
		total += c.Took.Seconds()
		switch {
		case c.Failure != "":
			out.Failure = &reasonXML{c.Failure}
		case c.Skipped != "":
			out.Skipped = &reasonXML{c.Skipped}
		}
		suite.Cases = append(suite.Cases, out)
	}
	suite.Time = fmt.Sprintf("%.3f", total)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(suite); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
