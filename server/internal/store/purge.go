package store

// purge removes the live messages that a query asks for.
func (s *stream) purge(q PurgeQuery) (int, error) {
	if s.ended != nil {
		return 0, s.ended
	}
	f := NewFilter(q.Pattern)
	var gone []*entry // drop changes the log
	for _, e := range s.log.from(0) {
		if q.Before > 0 && e.seq >= q.Before {
			break
		}
		if !e.dead && (q.Pattern == "" || f.Match(e.key)) {
			gone = append(gone, e)
		}
	}
	for _, e := range gone {
		s.drop(e)
	}
	for _, c := range s.consumers {
		c.waiting.Update() // a message that has waited for a removed one may be available
	}
	return len(gone), nil
}
