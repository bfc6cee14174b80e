package bridge

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// TestCodes: whoever adds a code adds it to the list, from which metrics and documents are made.
func TestCodes(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "rejection.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if value, ok := spec.Values[0].(*ast.BasicLit); ok && value.Kind == token.STRING {
			declared++
			if !slices.Contains(Codes[:], Code(strings.Trim(value.Value, `"`))) {
				t.Errorf("%s is not in Codes", spec.Names[0])
			}
		}
		return true
	})
	if declared != len(Codes) {
		t.Errorf("%d codes are declared, Codes has %d", declared, len(Codes))
	}
}
