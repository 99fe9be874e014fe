package server

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"unicode/utf8"
)

// decodeMultipart decodes the parts of a body as the 2024 server does. A file is an object without members.
func decodeMultipart(body []byte, contentType string) (params, error) {
	_, header, err := mime.ParseMediaType(contentType)
	if err != nil || header["boundary"] == "" {
		return nil, errMalformed
	}
	form := newValues()
	for parts := multipart.NewReader(bytes.NewReader(body), header["boundary"]); ; {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return form.object(), nil
		}
		if err != nil {
			return nil, errMalformed
		}
		text, err := io.ReadAll(part)
		if err != nil {
			return nil, errMalformed
		}
		_, disposition, _ := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
		name, named := disposition["name"]
		file, isFile := disposition["filename"]
		switch {
		case isFile && file != "":
			form.add(name, map[string]any{})
		case isFile:
		case !utf8.Valid(text):
			return nil, errMalformed
		case named:
			form.add(name, string(text))
		}
	}
}
