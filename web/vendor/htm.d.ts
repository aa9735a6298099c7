// For tsc --checkJs only: the types are those of the package "htm".
import htm from 'htm';
export default htm;
