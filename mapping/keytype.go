package mapping

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	keyTextRunesMax = 255
	keyPadRunes     = 64 // trailing spaces beyond the limit that are looked at before they are trimmed

	decimalDefaultDigits = 10
	dateForm             = "2006-01-02"
	datetimeForm         = "2006-01-02 15:04:05"
	uuidBytes            = 36
	inet4BytesMax        = 15
	inet6BytesMax        = 45
)

// keyClass is how the values of a key column are spelled. Each class has one spelling for each value, and the server finds exactly the value's row by it, or more than that, never another one instead.
type keyClass uint8

const (
	keyNone keyClass = iota
	keyInteger
	keyDecimal
	keyText
	keyBinary // lower-case hex
	keyDate
	keyDateTime
	keyUUID
	keyInet4
	keyInet6
)

var keyClasses = map[string]keyClass{
	"decimal": keyDecimal, "numeric": keyDecimal, "char": keyText, "varchar": keyText, "binary": keyBinary, "varbinary": keyBinary,
	"date": keyDate, "datetime": keyDateTime, "uuid": keyUUID, "inet4": keyInet4, "inet6": keyInet6,
}

// keyRefusals are the reasons why values of a type name no key.
var keyRefusals = map[string]string{
	"float": "rounds its values, so that no text is sure to find its row again", "double": "rounds its values, so that no text is sure to find its row again",
	"real": "rounds its values, so that no text is sure to find its row again",
	"enum": "compares by position or by text, whichever the other side is", "set": "compares by position or by text, whichever the other side is",
	"timestamp": "prints another text in another time zone", "time": "has several spellings of one value", "year": "has several spellings of one value",
	"bit": "compares as a number or as bytes, whichever the other side is", "json": "has several spellings of one value",
}

// keyClass gives the class of a key column, or the reason why it has none.
func (c Column) keyClass(fold bool) (keyClass, string) {
	base := c.Base()
	if c.Kind == KindInteger {
		return keyInteger, ""
	}
	class := keyClasses[base]
	switch {
	case class == keyText:
		return class, c.keyCollation(fold)
	case class == keyBinary && c.Length > keyTextRunesMax:
		return keyNone, fmt.Sprintf("holds up to %d bytes; a key takes at most %d", c.Length, keyTextRunesMax)
	case class != keyNone && c.Kind != KindUnsupported:
		return class, ""
	case keyRefusals[base] != "":
		return keyNone, "has type " + c.Type + ", which " + keyRefusals[base]
	case c.Kind == KindUnsupported:
		return keyNone, c.unsupported()
	}
	return keyNone, "has type " + c.Type + ", which has no place in a key (integers, DECIMAL, CHAR, VARCHAR, BINARY, VARBINARY, DATE, DATETIME, UUID and INET do)"
}

// foldingCollations are those, without their character set, that take the lower-case letter for its upper-case one, whatever the language: in Turkish ones i is no lower-case I.
var foldingCollations = []string{"general", "unicode", "unicode_520", "uca1400", "0900", "swedish"}

// keyCollation gives the reason why texts of the column's collation do not tell rows apart as keys do. Without a fold, equal must mean the same characters. With it, texts that
// differ in case alone must be equal for the server too, or two rows would share a key.
func (c Column) keyCollation(fold bool) string {
	charset, rules, _ := strings.Cut(strings.ToLower(c.Collation), "_")
	switch charset {
	case "utf8mb4", "utf8mb3", "utf8", "ascii", "latin1":
	default:
		return fmt.Sprintf("has collation %q; a key takes text of the character sets utf8mb4, utf8mb3, latin1 and ascii", c.Collation)
	}
	binary := strings.HasSuffix("_"+rules, "_bin")
	rules, insensitive := strings.CutSuffix(rules, "_ci")
	rules = strings.TrimSuffix(strings.TrimSuffix(rules, "_ai"), "_as")
	rules = strings.TrimSuffix(rules, "_nopad")
	switch {
	case fold && (!insensitive || !slices.Contains(foldingCollations, rules)):
		return fmt.Sprintf("has collation %s, which does not take every letter for its lower case: with fold two rows could share a key", c.Collation)
	case !fold && insensitive:
		return fmt.Sprintf("has collation %s, which finds 'abc' for 'ABC': declare \"fold\": \"lower\", or give the column a _bin collation", c.Collation)
	case !fold && !binary:
		return fmt.Sprintf("has collation %s, which may find another spelling: give the column a _bin collation", c.Collation)
	}
	return ""
}

// padded tells whether the server takes 'a' and 'a  ' for the same text. A CHAR loses its trailing spaces in any case.
func (c Column) padded() bool {
	name := strings.ToLower(c.Collation)
	return c.Base() == "char" || !strings.Contains(name, "_nopad_") && !strings.Contains(name, "_0900_")
}

// canonical gives the one spelling of a value as the class prescribes, or the reason why the text is no value of the column.
func (c Column) canonical(class keyClass, fold bool, s string) (text, reason string) {
	switch class {
	case keyInteger:
		return c.canonicalInteger(s)
	case keyDecimal:
		return c.canonicalDecimal(s)
	case keyText:
		return c.canonicalText(fold, s)
	case keyBinary:
		return c.canonicalHex(s)
	case keyDate:
		return canonicalTime(s, dateForm, "a real date such as 2024-02-29")
	case keyDateTime:
		return c.canonicalDateTime(s)
	case keyUUID:
		return canonicalUUID(s)
	case keyInet4:
		return canonicalInet(s, true)
	case keyInet6:
		return canonicalInet(s, false)
	}
	return "", "has a type that is no key"
}

// canonicalDecimal gives the digits as the server prints them: with all digits of the scale, no zeros in front, no minus before a zero.
func (c Column) canonicalDecimal(s string) (text, reason string) {
	digits, negative := strings.CutPrefix(s, "-")
	whole, fraction, point := strings.Cut(digits, ".")
	if whole == "" || point && fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return "", "is not a decimal number"
	}
	if len(fraction) > c.Scale {
		if strings.Trim(fraction[c.Scale:], "0") != "" {
			return "", "has more digits after the point than " + c.Type
		}
		fraction = fraction[:c.Scale]
	}
	fraction += strings.Repeat("0", c.Scale-len(fraction))
	whole = strings.TrimLeft(whole, "0")
	size := c.Length
	if size == 0 {
		size = decimalDefaultDigits
	}
	if len(whole) > size-c.Scale {
		return "", "is out of the range of " + c.Type
	}
	zero := strings.Trim(whole+fraction, "0") == ""
	if negative && !zero && c.Unsigned {
		return "", "is negative, and the column is UNSIGNED"
	}
	if whole == "" {
		whole = "0"
	}
	if negative && !zero {
		whole = "-" + whole
	}
	if c.Scale == 0 {
		return whole, ""
	}
	return whole + "." + fraction, ""
}

func (c Column) canonicalText(fold bool, s string) (text, reason string) {
	if len(s) > (keyTextRunesMax+keyPadRunes)*utf8.UTFMax {
		return "", fmt.Sprintf("is longer than %d characters", keyTextRunesMax)
	}
	if c.padded() {
		s = strings.TrimRight(s, " ")
	}
	switch {
	case !utf8.ValidString(s):
		return "", "is not UTF-8"
	case utf8.RuneCountInString(s) > keyTextRunesMax:
		return "", fmt.Sprintf("is longer than %d characters", keyTextRunesMax)
	case strings.ContainsFunc(s, isControl):
		return "", "holds a control character"
	}
	if reason := c.outsideCharset(s); reason != "" {
		return "", reason
	}
	if !fold {
		return s, ""
	}
	return foldLower(s)
}

// latin1Extra are the characters of the server's latin1 (which is Windows-1252) beyond U+00FF.
const latin1Extra = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"

// outsideCharset refuses what the column cannot hold. The server would compare such a text with every row instead of looking it up.
func (c Column) outsideCharset(s string) string {
	charset, _, _ := strings.Cut(strings.ToLower(c.Collation), "_")
	var inside func(r rune) bool
	switch charset {
	case "ascii":
		inside = func(r rune) bool { return r < utf8.RuneSelf }
	case "latin1":
		inside = func(r rune) bool {
			return r < utf8.RuneSelf || r >= 0xa0 && r <= 0xff || strings.ContainsRune(latin1Extra, r)
		}
	case "utf8", "utf8mb3":
		inside = func(r rune) bool { return r <= 0xffff }
	default:
		return ""
	}
	for _, r := range s {
		if !inside(r) {
			return fmt.Sprintf("holds %q, which is no character of %s", r, charset)
		}
	}
	return ""
}

// foldRanges are the upper-case letters whose lower case all foldable collations agree on: Latin to Extended-A, Greek, Cyrillic of the living languages, Armenian.
// The older collations do not know that letters of later Unicode versions have a case at all. (TestReadRows_FoldAgreesWithTheServersCollations)
var foldRanges = [...]struct{ first, last rune }{{'A', 0x17f}, {0x386, 0x3ab}, {0x400, 0x42f}, {0x490, 0x4bf}, {0x531, 0x556}}

func foldable(r rune) bool {
	for _, span := range foldRanges {
		if r >= span.first && r <= span.last {
			return true
		}
	}
	return false
}

// foldLower refuses upper-case letters whose lower case is also that of another letter (the Kelvin sign is a k): collations differ on whether they are equal.
func foldLower(s string) (text, reason string) {
	for _, r := range s {
		lower := unicode.ToLower(r)
		if lower != r && (!foldable(r) || unicode.ToUpper(lower) != r) {
			return "", fmt.Sprintf("holds %q, whose lower case is not certain", r)
		}
	}
	return strings.Map(unicode.ToLower, s), ""
}

func (c Column) canonicalHex(s string) (text, reason string) {
	s = strings.ToLower(s)
	if strings.Trim(s, hexDigits) != "" || len(s)%2 != 0 {
		return "", "is not hexadecimal"
	}
	n := len(s) / 2
	switch {
	case c.Base() == "binary" && n != c.Length:
		return "", fmt.Sprintf("has %d bytes, and %s has exactly %d", n, c.Type, c.Length)
	case n > c.Length:
		return "", fmt.Sprintf("has %d bytes, more than %s", n, c.Type)
	}
	return s, ""
}

func canonicalTime(s, form, want string) (text, reason string) {
	parsed, err := time.Parse(form, s)
	if err != nil || parsed.Year() == 0 || parsed.Format(form) != s {
		return "", "is not " + want
	}
	return s, ""
}

func (c Column) canonicalDateTime(s string) (text, reason string) {
	form := datetimeForm
	if c.Fsp > 0 {
		form += "." + strings.Repeat("0", c.Fsp)
	}
	return canonicalTime(s, form, "a real time in the form "+form)
}

func canonicalUUID(s string) (text, reason string) {
	s = strings.ToLower(s)
	digits := strings.ReplaceAll(s, "-", "")
	if len(digits) != 32 || strings.Trim(digits, hexDigits) != "" {
		return "", "is not a UUID"
	}
	text = digits[:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" + digits[20:]
	if s != text && s != digits {
		return "", "is not a UUID"
	}
	return text, ""
}

// canonicalInet gives the text that both the server and net/netip print. They differ on the addresses ::/96, which nobody uses since 2006.
func canonicalInet(s string, four bool) (text, reason string) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" || addr.Is4() != four {
		return "", "is not an address of the column's type"
	}
	if !four && !addr.Is4In6() {
		if b := addr.As16(); [12]byte(b[:12]) == [12]byte{} && addr != netip.IPv6Unspecified() && addr != netip.IPv6Loopback() {
			return "", "is one of ::/96, of which there are two spellings"
		}
	}
	return addr.String(), ""
}

// keyOfCell gives the text that a value has in a key before it is canonical: bytes as hex, everything else as the server printed it.
func keyOfCell(class keyClass, cell []byte) string {
	if class == keyBinary {
		return hex.EncodeToString(cell)
	}
	return string(cell)
}
