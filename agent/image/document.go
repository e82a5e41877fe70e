package image

import (
	"encoding/json"
	"strings"
)

// errorDocument is what a registry says in the body of a refusal (distribution spec, "errors"):
// the messages, or their codes where there are none, joined. Anything else gives an empty text.
func errorDocument(body []byte) string {
	var doc struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &doc) != nil {
		return ""
	}
	var words []string
	for _, e := range doc.Errors {
		switch {
		case e.Message != "":
			words = append(words, e.Message)
		case e.Code != "":
			words = append(words, strings.ToLower(e.Code))
		}
	}
	return strings.Join(words, "; ")
}
