package server

import (
	"maps"
	"slices"
)

// RouteShapes returns the shapes of all routes of the table.
func RouteShapes() []string { return slices.Sorted(maps.Keys(routes)) }
