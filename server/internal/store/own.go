package store

import "strings"

// own replaces the strings of the messages by copies, all of which share one allocation.
func own(messages []Message) {
	size := 0
	for i := range messages {
		size += len(messages[i].Key) + len(messages[i].Data)
	}
	var text strings.Builder
	text.Grow(size)
	for i := range messages {
		text.WriteString(messages[i].Key)
		text.WriteString(messages[i].Data)
	}
	rest := text.String()
	for i := range messages {
		m := &messages[i]
		end := len(m.Key) + len(m.Data)
		m.Key, m.Data, rest = rest[:len(m.Key)], rest[len(m.Key):end], rest[end:]
	}
}
