package search

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Fold is a text in the form in which strings are compared, for who has to compare as a search does.
func Fold(s string) string { return fold(s) }

// fold brings a text to the form in which strings are compared: no case, no accents, punctuation and runs of space as one
// space, apostrophes gone, so that "O’Brien" and "OBRIEN", "Jönßon" and "jonsson", "Smith-Jones" and "smith jones" agree.
// A text of punctuation only is kept as it is, lest it match everything. FHIR R4 search.html#string
func fold(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	if !isASCII(s) {
		s = norm.NFKD.String(s)
	}
	gap := false
	for _, c := range s {
		switch {
		case c < utf8.RuneSelf && ('a' <= c && c <= 'z' || '0' <= c && c <= '9'):
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c == '\'' || c == '’' || c == '‘' || c == 'ʼ' || c == '`' || unicode.Is(unicode.M, c):
			continue
		case c >= utf8.RuneSelf && (unicode.IsLetter(c) || unicode.IsDigit(c)):
			c = unicode.ToLower(c)
		case c == '+' || c >= utf8.RuneSelf && unicode.IsSymbol(c):
		default:
			gap = b.Len() > 0
			continue
		}
		if gap {
			b.WriteByte(' ')
			gap = false
		}
		if plain, ok := plainLetters[c]; ok {
			b.WriteString(plain)
		} else {
			b.WriteRune(c)
		}
	}
	if b.Len() == 0 {
		return strings.ToLower(strings.TrimSpace(s))
	}
	return b.String()
}

// plainLetters are letters that Unicode does not take apart, but that people write plainly.
var plainLetters = map[rune]string{
	'ß': "ss", 'ø': "o", 'æ': "ae", 'œ': "oe", 'ł': "l", 'đ': "d", 'ð': "d", 'þ': "th", 'ħ': "h", 'ı': "i", 'ŋ': "ng",
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// foldFor folds for one parameter: a postcode is the same with and without its space.
func foldFor(name, s string) string {
	f := fold(s)
	if name == "address-postalcode" {
		f = strings.ReplaceAll(f, " ", "")
	}
	return f
}
