package server

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestShapesAreTheCasesOfTheSwitch reads them from the source.
func TestShapesAreTheCasesOfTheSwitch(t *testing.T) {
	source, err := os.ReadFile("routes.go")
	require.NoError(t, err)
	var cases []string
	for _, found := range regexp.MustCompile(`"([A-Z]+ api/[^"]+)"`).FindAllStringSubmatch(string(source), -1) {
		cases = append(cases, found[1])
	}
	require.ElementsMatch(t, cases, slices.Concat(shapes, extensionShapes))
}
