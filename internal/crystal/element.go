package crystal

import (
	"strings"
	"sync"
)

// Element is a chemical element as simulations need it.
type Element struct {
	Z      int
	Symbol string
	Name   string
	// Mass is the standard atomic weight in u (IUPAC 2021, the conventional
	// value where IUPAC gives an interval), or the mass number of the longest
	// lived isotope of an element that has none.
	Mass float64
	// Radius is the covalent radius in Å (Cordero and others, 2008), or 0
	// where none was measured.
	Radius float64
}

// ElementOf returns the element of a symbol written as usual: "Si", not "SI".
// "D" is deuterium: hydrogen with the mass 2.014.
func ElementOf(symbol string) (Element, bool) {
	if symbol == deuterium.Symbol {
		return deuterium, true
	}
	z, ok := numbers()[symbol]
	if !ok {
		return Element{}, false
	}
	return elements[z-1], true
}

// ElementOfZ returns the element with that number of protons.
func ElementOfZ(z int) (Element, bool) {
	if z < 1 || z > len(elements) {
		return Element{}, false
	}
	return elements[z-1], true
}

// Mass returns the atomic mass in u.
func Mass(symbol string) (float64, bool) {
	e, ok := ElementOf(symbol)
	return e.Mass, ok
}

// canonicalSymbol returns "Si" for "SI", "si" and "Si"; false if there is no
// such element.
func canonicalSymbol(s string) (string, bool) {
	if len(s) == 0 || len(s) > 2 {
		return "", false
	}
	if e, ok := ElementOf(s); ok {
		return e.Symbol, true
	}
	e, ok := ElementOf(strings.ToUpper(s[:1]) + strings.ToLower(s[1:]))
	return e.Symbol, ok
}

// letters returns the leading ASCII letters of s.
func letters(s string) string {
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return s[:i]
		}
	}
	return s
}

var numbers = sync.OnceValue(func() map[string]int {
	m := make(map[string]int, len(elements))
	for _, e := range elements {
		m[e.Symbol] = e.Z
	}
	return m
})

var deuterium = Element{1, "D", "deuterium", 2.014, 0.31}

var elements = [...]Element{
	{1, "H", "hydrogen", 1.008, 0.31},
	{2, "He", "helium", 4.002602, 0.28},
	{3, "Li", "lithium", 6.94, 1.28},
	{4, "Be", "beryllium", 9.0121831, 0.96},
	{5, "B", "boron", 10.81, 0.84},
	{6, "C", "carbon", 12.011, 0.76},
	{7, "N", "nitrogen", 14.007, 0.71},
	{8, "O", "oxygen", 15.999, 0.66},
	{9, "F", "fluorine", 18.998403162, 0.57},
	{10, "Ne", "neon", 20.1797, 0.58},
	{11, "Na", "sodium", 22.98976928, 1.66},
	{12, "Mg", "magnesium", 24.305, 1.41},
	{13, "Al", "aluminium", 26.9815384, 1.21},
	{14, "Si", "silicon", 28.085, 1.11},
	{15, "P", "phosphorus", 30.973761998, 1.07},
	{16, "S", "sulfur", 32.06, 1.05},
	{17, "Cl", "chlorine", 35.45, 1.02},
	{18, "Ar", "argon", 39.95, 1.06},
	{19, "K", "potassium", 39.0983, 2.03},
	{20, "Ca", "calcium", 40.078, 1.76},
	{21, "Sc", "scandium", 44.955907, 1.70},
	{22, "Ti", "titanium", 47.867, 1.60},
	{23, "V", "vanadium", 50.9415, 1.53},
	{24, "Cr", "chromium", 51.9961, 1.39},
	{25, "Mn", "manganese", 54.938043, 1.39},
	{26, "Fe", "iron", 55.845, 1.32},
	{27, "Co", "cobalt", 58.933194, 1.26},
	{28, "Ni", "nickel", 58.6934, 1.24},
	{29, "Cu", "copper", 63.546, 1.32},
	{30, "Zn", "zinc", 65.38, 1.22},
	{31, "Ga", "gallium", 69.723, 1.22},
	{32, "Ge", "germanium", 72.630, 1.20},
	{33, "As", "arsenic", 74.921595, 1.19},
	{34, "Se", "selenium", 78.971, 1.20},
	{35, "Br", "bromine", 79.904, 1.20},
	{36, "Kr", "krypton", 83.798, 1.16},
	{37, "Rb", "rubidium", 85.4678, 2.20},
	{38, "Sr", "strontium", 87.62, 1.95},
	{39, "Y", "yttrium", 88.905838, 1.90},
	{40, "Zr", "zirconium", 91.224, 1.75},
	{41, "Nb", "niobium", 92.90637, 1.64},
	{42, "Mo", "molybdenum", 95.95, 1.54},
	{43, "Tc", "technetium", 97, 1.47},
	{44, "Ru", "ruthenium", 101.07, 1.46},
	{45, "Rh", "rhodium", 102.90549, 1.42},
	{46, "Pd", "palladium", 106.42, 1.39},
	{47, "Ag", "silver", 107.8682, 1.45},
	{48, "Cd", "cadmium", 112.414, 1.44},
	{49, "In", "indium", 114.818, 1.42},
	{50, "Sn", "tin", 118.710, 1.39},
	{51, "Sb", "antimony", 121.760, 1.39},
	{52, "Te", "tellurium", 127.60, 1.38},
	{53, "I", "iodine", 126.90447, 1.39},
	{54, "Xe", "xenon", 131.293, 1.40},
	{55, "Cs", "caesium", 132.90545196, 2.44},
	{56, "Ba", "barium", 137.327, 2.15},
	{57, "La", "lanthanum", 138.90547, 2.07},
	{58, "Ce", "cerium", 140.116, 2.04},
	{59, "Pr", "praseodymium", 140.90766, 2.03},
	{60, "Nd", "neodymium", 144.242, 2.01},
	{61, "Pm", "promethium", 145, 1.99},
	{62, "Sm", "samarium", 150.36, 1.98},
	{63, "Eu", "europium", 151.964, 1.98},
	{64, "Gd", "gadolinium", 157.25, 1.96},
	{65, "Tb", "terbium", 158.925354, 1.94},
	{66, "Dy", "dysprosium", 162.500, 1.92},
	{67, "Ho", "holmium", 164.930329, 1.92},
	{68, "Er", "erbium", 167.259, 1.89},
	{69, "Tm", "thulium", 168.934219, 1.90},
	{70, "Yb", "ytterbium", 173.045, 1.87},
	{71, "Lu", "lutetium", 174.9668, 1.87},
	{72, "Hf", "hafnium", 178.486, 1.75},
	{73, "Ta", "tantalum", 180.94788, 1.70},
	{74, "W", "tungsten", 183.84, 1.62},
	{75, "Re", "rhenium", 186.207, 1.51},
	{76, "Os", "osmium", 190.23, 1.44},
	{77, "Ir", "iridium", 192.217, 1.41},
	{78, "Pt", "platinum", 195.084, 1.36},
	{79, "Au", "gold", 196.966570, 1.36},
	{80, "Hg", "mercury", 200.592, 1.32},
	{81, "Tl", "thallium", 204.38, 1.45},
	{82, "Pb", "lead", 207.2, 1.46},
	{83, "Bi", "bismuth", 208.98040, 1.48},
	{84, "Po", "polonium", 209, 1.40},
	{85, "At", "astatine", 210, 1.50},
	{86, "Rn", "radon", 222, 1.50},
	{87, "Fr", "francium", 223, 2.60},
	{88, "Ra", "radium", 226, 2.21},
	{89, "Ac", "actinium", 227, 2.15},
	{90, "Th", "thorium", 232.0377, 2.06},
	{91, "Pa", "protactinium", 231.03588, 2.00},
	{92, "U", "uranium", 238.02891, 1.96},
	{93, "Np", "neptunium", 237, 1.90},
	{94, "Pu", "plutonium", 244, 1.87},
	{95, "Am", "americium", 243, 1.80},
	{96, "Cm", "curium", 247, 1.69},
	{97, "Bk", "berkelium", 247, 0},
	{98, "Cf", "californium", 251, 0},
	{99, "Es", "einsteinium", 252, 0},
	{100, "Fm", "fermium", 257, 0},
	{101, "Md", "mendelevium", 258, 0},
	{102, "No", "nobelium", 259, 0},
	{103, "Lr", "lawrencium", 262, 0},
	{104, "Rf", "rutherfordium", 267, 0},
	{105, "Db", "dubnium", 268, 0},
	{106, "Sg", "seaborgium", 269, 0},
	{107, "Bh", "bohrium", 270, 0},
	{108, "Hs", "hassium", 269, 0},
	{109, "Mt", "meitnerium", 278, 0},
	{110, "Ds", "darmstadtium", 281, 0},
	{111, "Rg", "roentgenium", 282, 0},
	{112, "Cn", "copernicium", 285, 0},
	{113, "Nh", "nihonium", 286, 0},
	{114, "Fl", "flerovium", 289, 0},
	{115, "Mc", "moscovium", 290, 0},
	{116, "Lv", "livermorium", 293, 0},
	{117, "Ts", "tennessine", 294, 0},
	{118, "Og", "oganesson", 294, 0},
}
