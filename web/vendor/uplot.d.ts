// For tsc --checkJs only: the types are those of the package "uplot".
import uPlot from 'uplot';
export default uPlot;
