package mesh

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/base/logformat"
	"github.com/mallamesh/malla/model"
)

// operator is Envoy's syntax: %NAME%, %NAME(argument)%, either with :length
// before the last sign. An argument ends at the first ")" that can end it.
var operator = regexp.MustCompile(`^%([A-Z0-9_]+)(\((?s:.*?)\))?(:[0-9]+)?%`)

// checkLogFormat checks the syntax and the operators of an access log's format: of a
// line, or in JSON of an object whose texts are formats.
func checkLogFormat(format string, encoding model.AccessLogEncoding) error {
	if format == "" {
		return nil // the default
	}
	if encoding == model.LogJSON {
		var fields map[string]any
		if err := json.Unmarshal([]byte(format), &fields); err != nil || fields == nil {
			return fmt.Errorf("found %q, want a JSON object, since accessLogEncoding is JSON", clip(format))
		}
		return checkLogValue(fields)
	}
	if slices.Contains(logformat.MeshNames, format) {
		return nil
	}
	if !strings.ContainsAny(format, "% \t\n") {
		return fmt.Errorf("found %q, want a format with operators such as %%START_TIME%%, or the name %s", clip(format), strings.Join(logformat.MeshNames, " or "))
	}
	return checkOperators(format)
}

func checkLogValue(v any) error {
	switch v := v.(type) {
	case string:
		return checkOperators(v)
	case []any:
		for _, e := range v {
			if err := checkLogValue(e); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if err := checkLogValue(v[name]); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func checkOperators(text string) error {
	for {
		i := strings.IndexByte(text, '%')
		if i < 0 {
			return nil
		}
		text = text[i:]
		if rest, ok := strings.CutPrefix(text, "%%"); ok {
			text = rest
			continue
		}
		m := operator.FindStringSubmatch(text)
		if m == nil {
			return fmt.Errorf("found %q, want an operator such as %%PROTOCOL%%, %%REQ(USER-AGENT)%% or %%REQ(USER-AGENT):20%%, or %%%% for a percent sign", clip(text))
		}
		if err := logformat.Check(m[1], m[2] != "", m[3] != ""); err != nil {
			instead := ""
			if _, known := logformat.Operators[m[1]]; !known {
				instead = field.Suggest(m[1], slices.Sorted(maps.Keys(logformat.Operators)))
			}
			return fmt.Errorf("found %q: %w%s", clip(m[0]), err, instead)
		}
		text = text[len(m[0]):]
	}
}

func clip(s string) string {
	if len(s) > 30 {
		return s[:30] + "..."
	}
	return s
}
