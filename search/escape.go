package search

import "strings"

// FHIR's own escapes: a value may hold a comma, bar, dollar or backslash that is not a separator, written with a backslash
// before it. FHIR R4 search.html#escaping

// split cuts s at each sep that is not escaped; the pieces keep their escapes.
func split(s string, sep byte) []string {
	if strings.IndexByte(s, sep) < 0 {
		return []string{s}
	}
	var out []string
	from := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			out = append(out, s[from:i])
			from = i + 1
		}
	}
	return append(out, s[from:])
}

// cut is split into two at the first sep.
func cut(s string, sep byte) (before, after string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// unescape takes FHIR's escapes away. A backslash before anything else stays: people do type paths.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && strings.IndexByte(`,|$\`, s[i+1]) >= 0 {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

var escaper = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `|`, `\|`, `$`, `\$`)

// Escape makes a text safe to stand as (a part of) a value.
func Escape(s string) string { return escaper.Replace(s) }

// Token is the value that searches for a code or identifier of a system. With system "" any system will do.
func Token(system, code string) string {
	if system == "" {
		return Escape(code)
	}
	return Escape(system) + "|" + Escape(code)
}
