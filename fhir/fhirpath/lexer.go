package fhirpath

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"tombolo/fhir"
)

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenQuoted // `name`
	tokenText   // 'text'
	tokenNumber
	tokenMoment // @2026-03-31
	tokenSymbol
)

type token struct {
	kind tokenKind
	text string // unescaped
	at   int    // byte of the expression at which it begins
}

// A syntax error names the character; it repeats nothing of the expression, which may hold a person's data.
func wrongAt(src string, at int, format string, args ...any) error {
	n := utf8.RuneCountInString(src[:min(at, len(src))]) + 1
	return fhir.Errorf(fhir.Invalid, "the FHIRPath expression is wrong at character %d: "+format, append([]any{n}, args...)...)
}

// lex splits an expression into tokens. FHIRPath, appendix B (the grammar's lexical rules)
func lex(src string) ([]token, error) {
	l := lexer{src: src}
	for {
		if err := l.blank(); err != nil {
			return nil, err
		}
		l.from = l.at
		if l.at >= len(src) {
			return append(l.out, token{tokenEnd, "", l.at}), nil
		}
		if err := l.token(src[l.at]); err != nil {
			return nil, err
		}
	}
}

type lexer struct {
	src      string
	from, at int
	out      []token
}

func (l *lexer) add(k tokenKind, text string) { l.out = append(l.out, token{k, text, l.from}) }

// blank passes over white space and comments.
func (l *lexer) blank() error {
	for l.at < len(l.src) {
		rest := l.src[l.at:]
		switch {
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			l.at++
		case strings.HasPrefix(rest, "//"):
			if i := strings.IndexByte(rest, '\n'); i >= 0 {
				l.at += i
			} else {
				l.at = len(l.src)
			}
		case strings.HasPrefix(rest, "/*"):
			i := strings.Index(rest[2:], "*/")
			if i < 0 {
				return wrongAt(l.src, l.at, "the comment is not ended")
			}
			l.at += i + 4
		default:
			return nil
		}
	}
	return nil
}

func (l *lexer) token(c byte) error {
	switch {
	case c == '\'' || c == '`' || c == '"':
		text, err := l.quoted(c)
		if err != nil {
			return err
		}
		l.add(map[byte]tokenKind{'\'': tokenText, '`': tokenQuoted, '"': tokenQuoted}[c], text)
	case c == '@':
		l.at++
		for l.at < len(l.src) && l.inMoment() {
			l.at++
		}
		l.add(tokenMoment, l.src[l.from+1:l.at])
	case isDigit(c):
		l.digits()
		if l.at+1 < len(l.src) && l.src[l.at] == '.' && isDigit(l.src[l.at+1]) {
			l.at++
			l.digits()
		}
		l.add(tokenNumber, l.src[l.from:l.at])
	case isLetter(c) || c == '$' && l.at+1 < len(l.src) && isLetter(l.src[l.at+1]):
		for l.at++; l.at < len(l.src) && (isLetter(l.src[l.at]) || isDigit(l.src[l.at])); l.at++ {
		}
		l.add(tokenName, l.src[l.from:l.at])
	default:
		for _, s := range []string{"!=", "!~", "<=", ">=", "+", "-", "*", "/", "&", "|", "=", "~", "<", ">", "(", ")", "[", "]", "{", "}", ".", ",", "%"} {
			if strings.HasPrefix(l.src[l.at:], s) {
				l.at += len(s)
				l.add(tokenSymbol, s)
				return nil
			}
		}
		return wrongAt(l.src, l.at, "this character means nothing here")
	}
	return nil
}

func (l *lexer) digits() {
	for l.at < len(l.src) && isDigit(l.src[l.at]) {
		l.at++
	}
}

// inMoment reports whether the next character belongs to a date: a point only before a digit, and a sign only in a time or between digits.
func (l *lexer) inMoment() bool {
	c := l.src[l.at]
	next := byte(0)
	if l.at+1 < len(l.src) {
		next = l.src[l.at+1]
	}
	so := l.src[l.from+1 : l.at]
	switch {
	case isDigit(c):
		return true
	case c == 'T':
		return !strings.Contains(so, "T")
	case c == 'Z':
		return strings.Contains(so, "T")
	case c == '.':
		return isDigit(next) && strings.Contains(so, ":")
	case c == '-':
		return isDigit(next)
	case c == ':':
		return isDigit(next)
	case c == '+':
		return isDigit(next) && strings.Contains(so, "T") && len(so) > 4
	}
	return false
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }

// quoted reads to the closing quote, and resolves escapes.
func (l *lexer) quoted(quote byte) (string, error) {
	var b strings.Builder
	for l.at++; l.at < len(l.src); l.at++ {
		c := l.src[l.at]
		switch {
		case c == quote:
			l.at++
			return b.String(), nil
		case c != '\\':
			b.WriteByte(c)
			continue
		}
		if l.at++; l.at >= len(l.src) {
			break
		}
		switch c := l.src[l.at]; c {
		case '\'', '"', '`', '\\', '/':
			b.WriteByte(c)
		case 'f', 'n', 'r', 't':
			b.WriteByte(map[byte]byte{'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}[c])
		case 'u':
			r, ok := unhex(l.src, l.at+1)
			if !ok {
				return "", wrongAt(l.src, l.at, `\u is followed by four hexadecimal digits`)
			}
			l.at += 4
			if utf16.IsSurrogate(r) && strings.HasPrefix(l.src[l.at+1:], `\u`) {
				if low, ok := unhex(l.src, l.at+3); ok {
					if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
						l.at += 6
					}
				}
			}
			b.WriteRune(r)
		default: // FHIRPath says nothing of other escapes: what is escaped stands for itself, as regular expressions in FHIR's own constraints have it
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return "", wrongAt(l.src, l.from, "the quote is not closed")
}

func unhex(s string, at int) (rune, bool) {
	if at+4 > len(s) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(s[at : at+4]) {
		i := strings.IndexByte("0123456789abcdef", c|0x20)
		if i < 0 || c < '0' {
			return 0, false
		}
		r = r<<4 | rune(i)
	}
	return r, true
}
