package server

import (
	"slices"
	"strings"

	"github.com/sequin-go/sequin/internal/jscan"
)

// checkMembers refuses a body of an extension's own route with a member that it does not know, or with one that is there twice: a
// misspelt one would do something else than was meant. The routes of the API ignore unknown members, as the 2024 server does.
func checkMembers(body []byte, known ...string) error {
	var s jscan.Scanner
	s.Reset(body)
	if s.Kind() != jscan.Object {
		return nil
	}
	s.Object()
	seen := make(map[string]bool, len(known))
	for {
		name, ok := s.Key()
		if !ok {
			return nil
		}
		member := string(name)
		switch {
		case !slices.Contains(known, member):
			return badRequest("Unknown member `%s`. Known are `%s`", brief(member), strings.Join(known, "`, `"))
		case seen[member]:
			return badRequest("`%s` is there twice", member)
		}
		seen[member] = true
		s.Skip()
	}
}
