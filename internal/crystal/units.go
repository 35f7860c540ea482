package crystal

// CODATA 2018 values, the only conversion constants used in the system.
const (
	HartreeEV       = 27.211386245988    // eV
	RydbergEV       = HartreeEV / 2      // eV
	BohrA           = 0.529177210903     // Å
	EVPerA3GPa      = 160.2176634        // 1 eV/Å³ in GPa
	KcalPerMolEV    = 0.0433641153087705 // per particle
	AvogadroPerMol  = 6.02214076e23
	AtmosphereGPa   = 1.01325e-4
	BarGPa          = 1e-4
	KbarGPa         = 0.1
	HaPerBohrEVPerA = HartreeEV / BohrA
	RyPerBohrEVPerA = RydbergEV / BohrA
	HaPerBohr3GPa   = HartreeEV / (BohrA * BohrA * BohrA) * EVPerA3GPa
	AMUPerA3GPerCM3 = 1e24 / AvogadroPerMol // 1 u/Å³ in g/cm³
)
