package server

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// This file is how the 2024 server's web framework reads media types, and chooses the format of an answer.

// format is a format of answers.
type format uint8

const (
	noFormat format = iota
	htmlFormat
	jsonFormat
)

// accepts returns the first of the formats that an Accept header takes, or noFormat. Every range that is named counts,
// also one with q=0.
func accepts(header string, given bool, formats ...format) format {
	if !given || header == "*/*" {
		return formats[0]
	}
	if strings.Contains(header, "*/*") && slices.Contains(formats, htmlFormat) {
		return htmlFormat // probably a browser
	}
	var later []mediaRange
	for part := range strings.SplitSeq(header, ",") {
		media, ok := parseMedia(part)
		if !ok {
			continue
		}
		r := mediaRange{text: part, quality: quality(media.params), format: media.format(formats)}
		if r.quality == 1 && r.format != noFormat {
			return r.format
		}
		later = append(later, r)
	}
	slices.SortFunc(later, func(a, b mediaRange) int {
		return cmp.Or(cmp.Compare(b.quality, a.quality), strings.Compare(a.text, b.text))
	})
	for _, r := range later {
		if r.format != noFormat {
			return r.format
		}
	}
	return noFormat
}

// mediaRange is one part of an Accept header.
type mediaRange struct {
	text    string
	quality float64
	format  format // the first that it takes
}

// quality returns the q of a range, of which the number at the beginning counts. Without one it is 1.
func quality(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		name, value, ok := strings.Cut(strings.TrimSpace(param), "=")
		if !ok || !strings.EqualFold(name, "q") {
			continue
		}
		end := 0
		for end < len(value) && (value[end] >= '0' && value[end] <= '9' || value[end] == '.' && end > 0) {
			end++
		}
		if q, err := strconv.ParseFloat(value[:end], 64); err == nil {
			return q
		}
	}
	return 1
}

// media is a media type, in lower case, with its parameters as they are written.
type media struct{ kind, sub, params string }

// parseMedia returns false for what is not a media type.
func parseMedia(text string) (media, bool) {
	name, params, _ := strings.Cut(text, ";")
	name = strings.ToLower(strings.Trim(name, " \t"))
	kind, sub, ok := strings.Cut(name, "/")
	if !ok || kind == "" || kind == "*" && sub != "*" {
		return media{}, false
	}
	if kind != "*" && !onlyHas(kind, "-") || sub != "*" && !onlyHas(sub, "-.+_") {
		return media{}, false
	}
	return media{kind, sub, params}, true
}

// onlyHas reports whether a text has letters, digits and the other characters only.
func onlyHas(text, other string) bool {
	for i := range len(text) {
		b := text[i]
		if !(b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || strings.IndexByte(other, b) >= 0) {
			return false
		}
	}
	return true
}

// format returns the first of the formats that a range takes, or noFormat.
func (m media) format(formats []format) format {
	if m.kind == "*" {
		return formats[0]
	}
	takes := noFormat
	switch {
	case m.kind == "text" && (m.sub == "*" || m.sub == "html"):
		takes = htmlFormat
	case m.kind == "application" && m.sub == "*", m.isJSON():
		takes = jsonFormat
	}
	if slices.Contains(formats, takes) {
		return takes
	}
	return noFormat
}

// otherJSON are the types with the suffix +json for which the 2024 server has formats of their own.
var otherJSON = []string{"application/json-patch+json", "application/ld+json", "application/manifest+json", "application/vnd.api+json"}

func (m media) isJSON() bool {
	name := m.kind + "/" + m.sub
	if name == "application/json" {
		return true
	}
	_, suffix, ok := strings.Cut(name, "+")
	return ok && suffix == "json" && !slices.Contains(otherJSON, name)
}
